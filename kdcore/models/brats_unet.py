"""The U-Nets of the BraTS system: a plain teacher, a student of separable convolutions.

Structure and sizes are those of the reference system (see the sizes in the tests). It names no
rate for the student's dropout; ours is an option.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from kdcore.models.choices import choose, construct, refuse_imagenet
from kdcore.spec.model import ModelSpec

Conv = Callable[[int, int], nn.Module]

_SLOPE = 0.01
_VARIANTS: dict[str, dict[str, Any]] = {
    "teacher": {"width": 32, "separable": False, "dropout": 0.0},
    "student": {"width": 16, "separable": True, "dropout": 0.1},
}


def build_brats_unet(spec: ModelSpec, classes: int, field: str) -> nn.Module:
    """`teacher` or `student`. Raises: SpecError."""
    refuse_imagenet(spec, field)
    variant = choose(_VARIANTS, spec, field)
    return construct(BratsUnet, spec, field, variant, classes=classes)


class BratsUnet(nn.Module):
    """Logits at stride 1; five stages at strides 1 to 16. ``dropout`` follows each decoder block."""

    stage_names = ("stage1", "stage2", "stage3", "stage4", "stage5")

    def __init__(self, *, classes: int, width: int, separable: bool, dropout: float) -> None:
        super().__init__()
        widths = [width * 2**level for level in range(5)]
        conv = _separable_conv if separable else _plain_conv
        self.encoder = Encoder(widths, conv)
        levels = (3, 2, 1, 0)
        self.ups = nn.ModuleList(_up(widths[level + 1], widths[level]) for level in levels)
        self.blocks = nn.ModuleList(
            _block(2 * widths[level], widths[level], conv) for level in levels
        )
        self.dropout = nn.Dropout2d(dropout)
        last = [] if separable else [_plain_conv(width, width)]
        self.head = nn.Sequential(*last, nn.Conv2d(width, classes, 1))

    def forward(self, images_NCHW: Tensor) -> Tensor:
        *skips, x_NCHW = self.encoder(images_NCHW)
        for up, block, skip_NCHW in zip(self.ups, self.blocks, reversed(skips), strict=True):
            x_NCHW = self.dropout(block(torch.cat([up(x_NCHW), skip_NCHW], dim=1)))
        logits: Tensor = self.head(x_NCHW)
        return logits


class Encoder(nn.Module):
    """The five stages' features, halved by max pooling between them."""

    def __init__(self, widths: Sequence[int], conv: Conv) -> None:
        super().__init__()
        self.stages = nn.ModuleList(
            _block(inputs, outputs, conv)
            for inputs, outputs in zip((3, *widths), widths, strict=False)
        )
        self.pool = nn.MaxPool2d(2)

    def forward(self, images_NCHW: Tensor) -> list[Tensor]:
        maps = [self.stages[0](images_NCHW)]
        for stage in self.stages[1:]:
            maps.append(stage(self.pool(maps[-1])))
        return maps


def _block(inputs: int, outputs: int, conv: Conv) -> nn.Sequential:
    return nn.Sequential(conv(inputs, outputs), conv(outputs, outputs))


def _plain_conv(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU(inplace=True))


def _separable_conv(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, inputs, 3, padding=1, groups=inputs, bias=False),
        nn.Conv2d(inputs, outputs, 1),
        nn.BatchNorm2d(outputs),
        nn.LeakyReLU(_SLOPE, inplace=True),
    )


def _up(inputs: int, outputs: int) -> nn.Module:
    return nn.ConvTranspose2d(inputs, outputs, 3, stride=2, padding=1, output_padding=1)

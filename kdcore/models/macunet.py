"""MACU-Net: a U-Net whose every decoder level sees all scales, with asymmetric convolutions.

Source: Li et al., "MACU-Net for Semantic Segmentation of Fine-Resolution Remotely Sensed Images",
arXiv:2007.13083. Blocks, widths and sizes are those of the IDD system; see the sizes in the tests.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from kdcore.models.choices import choose, construct, refuse_imagenet
from kdcore.spec.model import ModelSpec

_RATIO = 16
_VARIANTS = {
    "teacher": {"width": 16, "light": False},
    "doubled": {"width": 32, "light": False},
    "student": {"width": 8, "light": True},
}


def build_macunet(spec: ModelSpec, classes: int, field: str) -> nn.Module:
    """`teacher`, `doubled` (twice its widths) or `student` (half, one block a stage). Raises: SpecError."""
    refuse_imagenet(spec, field)
    variant = choose(_VARIANTS, spec, field)
    return construct(MacuNet, spec, field, variant, classes=classes)


class MacuNet(nn.Module):
    """Logits at stride 1; five stages, at strides 1 to 16, of widths ``width`` times 1, 2, 4, 8, 16."""

    stage_names = ("stage1", "stage2", "stage3", "stage4", "stage5")

    def __init__(self, *, classes: int, width: int, light: bool) -> None:
        super().__init__()
        widths = [width * 2**level for level in range(5)]
        self.encoder = Encoder(widths, light=light)
        self.downs = nn.ModuleList(
            _chain([_pool_and_conv(*pair) for pair in _pairs(widths[level:4])])
            for level in range(3)
        )
        self.ups = nn.ModuleList(
            _chain([_upsample(*pair) for pair in _pairs(widths[level::-1])])
            for level in (4, 3, 2, 1)
        )
        self.gates = nn.ModuleList(ChannelGate(5 * width, 2 * width) for width in widths[:4])
        self.merges = nn.ModuleList(
            nn.Sequential(AsymmetricConv(2 * width, width), AsymmetricConv(width, width))
            for width in widths[:4]
        )
        self.classifier = nn.Conv2d(width, classes, 1)

    def forward(self, images_NCHW: Tensor) -> Tensor:
        """Every level gathers what comes up from below, its own stage, what comes down from above."""
        maps = self.encoder(images_NCHW)
        gathered: list[list[Tensor]] = [[] for _ in range(4)]
        deepest = maps[4]
        for level in (3, 2, 1, 0):
            _spread(deepest, self.ups[3 - level], range(level, -1, -1), gathered)
            if level == 3:
                self._gather_from_above(maps, gathered)
            deepest = self.merges[level](self.gates[level](torch.cat(gathered[level], dim=1)))
        logits: Tensor = self.classifier(deepest)
        return logits

    def _gather_from_above(self, maps: Sequence[Tensor], gathered: list[list[Tensor]]) -> None:
        for level in range(4):
            gathered[level].append(maps[level])
        for level, chain in enumerate(self.downs):
            _spread(maps[level], chain, range(level + 1, 4), gathered)


class Encoder(nn.Module):
    """The five stages' features. ``light``: one block a stage, and a depthwise one in the first."""

    def __init__(self, widths: Sequence[int], *, light: bool) -> None:
        super().__init__()
        depths = (2, 1, 1, 1, 1) if light else (2, 2, 3, 3, 3)
        before = (3, *widths)
        self.stages = nn.ModuleList(
            _stage(before[level], width, depths[level], depthwise=light)
            for level, width in enumerate(widths)
        )
        self.pool = nn.MaxPool2d(2)

    def forward(self, images_NCHW: Tensor) -> list[Tensor]:
        maps = [self.stages[0](images_NCHW)]
        for stage in self.stages[1:]:
            maps.append(stage(self.pool(maps[-1])))
        return maps


class AsymmetricConv(nn.Module):
    """ACBlock: 3x3 + 1x3 + 3x1 with biases, summed; then batch norm and ReLU."""

    def __init__(self, inputs: int, outputs: int, *, depthwise: bool = False) -> None:
        super().__init__()
        groups = inputs if depthwise else 1
        self.square = nn.Conv2d(inputs, outputs, 3, padding=1, groups=groups)
        self.row = nn.Conv2d(inputs, outputs, (1, 3), padding=(0, 1), groups=groups)
        self.column = nn.Conv2d(inputs, outputs, (3, 1), padding=(1, 0), groups=groups)
        self.norm = nn.BatchNorm2d(outputs)
        self.act = nn.ReLU(inplace=True)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        summed_NCHW = self.square(x_NCHW) + self.row(x_NCHW) + self.column(x_NCHW)
        activated: Tensor = self.act(self.norm(summed_NCHW))
        return activated


class ChannelGate(nn.Module):
    """1x1 convolution, then channels scaled by a sigmoid of their mean and their maximum."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.project = nn.Conv2d(inputs, outputs, 1, bias=False)
        self.of_mean = _bottleneck(outputs)
        self.of_maximum = _bottleneck(outputs)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        x_NCHW = self.project(x_NCHW)
        mean_NC11 = self.of_mean(x_NCHW.mean((2, 3), keepdim=True))
        maximum_NC11 = self.of_maximum(x_NCHW.amax((2, 3), keepdim=True))
        gate_NC11: Tensor = (mean_NC11 + maximum_NC11).sigmoid()
        return x_NCHW * gate_NC11


def _bottleneck(width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(width, width // _RATIO, 1, bias=False),
        nn.ReLU(inplace=True),
        nn.Conv2d(width // _RATIO, width, 1, bias=False),
    )


def _stage(inputs: int, outputs: int, depth: int, *, depthwise: bool) -> nn.Sequential:
    further = (AsymmetricConv(outputs, outputs, depthwise=depthwise) for _ in range(depth - 1))
    return nn.Sequential(AsymmetricConv(inputs, outputs), *further)


def _pool_and_conv(inputs: int, outputs: int) -> nn.Module:
    return nn.Sequential(nn.MaxPool2d(2), AsymmetricConv(inputs, outputs))


def _upsample(inputs: int, outputs: int) -> nn.Module:
    return nn.ConvTranspose2d(inputs, outputs, 2, stride=2)


def _chain(links: list[nn.Module]) -> nn.ModuleList:
    return nn.ModuleList(links)


def _pairs(widths: Sequence[int]) -> list[tuple[int, int]]:
    return list(pairwise(widths))


def _spread(
    start: Tensor, chain: nn.Module, levels: Sequence[int], gathered: list[list[Tensor]]
) -> None:
    """Link after link of ``chain`` from ``start``; what each gives goes to its level."""
    assert isinstance(chain, nn.ModuleList)
    for level, link in zip(levels, chain, strict=True):
        start = link(start)
        gathered[level].append(start)

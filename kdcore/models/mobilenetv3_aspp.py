"""The VOC system's student: MobileNetV3-Small, atrous pyramid, one low-level skip.

Structure after DeepLabV3+ (arXiv:1802.02611), with a 3x3 branch at rate 1 beside the 1x1 branch.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import MobileNet_V3_Small_Weights, mobilenet_v3_small

from kdcore.models.backbones import Features
from kdcore.models.choices import choose, construct
from kdcore.models.weights import downloading
from kdcore.spec.model import ModelSpec

_KEPT = (0, 1, 3, 6, 8, 12)
_LOW_LEVEL = _KEPT.index(3)
_RATES = (1, 6, 12, 18)


def build_mobilenetv3_aspp(spec: ModelSpec, classes: int, field: str) -> nn.Module:
    """Encoder `mobilenet_v3_small`. Raises: SpecError."""
    build = choose({"mobilenet_v3_small": mobilenet_v3_small}, spec, field)
    weights = MobileNet_V3_Small_Weights.DEFAULT if spec.weights == "imagenet" else None
    with downloading(spec, field):
        backbone = build(weights=weights).features
    return construct(MobileNetV3Aspp, spec, field, classes=classes, backbone=backbone)


class MobileNetV3Aspp(nn.Module):
    """Logits at stride 8, the low-level map's."""

    stage_names = tuple(f"features.{index}" for index in _KEPT)

    def __init__(
        self,
        *,
        classes: int,
        backbone: nn.Sequential,
        width: int = 256,
        low_level_width: int = 48,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        self.encoder = Features(backbone, _KEPT)
        self.aspp = Aspp(576, width, dropout)
        self.low_level = _conv(24, low_level_width, 1)
        self.decoder = nn.Sequential(
            _conv(width + low_level_width, width, 3), _conv(width, width, 3), nn.Dropout(dropout)
        )
        self.classifier = nn.Conv2d(width, classes, 1)

    def forward(self, images_NCHW: Tensor) -> Tensor:
        maps = self.encoder(images_NCHW)
        low_NCHW = self.low_level(maps[_LOW_LEVEL])
        context_NCHW = F.interpolate(
            self.aspp(maps[-1]), size=low_NCHW.shape[-2:], mode="bilinear", align_corners=False
        )
        logits: Tensor = self.classifier(self.decoder(torch.cat([context_NCHW, low_NCHW], dim=1)))
        return logits


class Aspp(nn.Module):
    """1x1, four 3x3 at rates 1, 6, 12, 18, and the global mean; concatenated and projected."""

    def __init__(self, inputs: int, width: int, dropout: float) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            [_conv(inputs, width, 1), *(_conv(inputs, width, 3, rate) for rate in _RATES)]
        )
        self.pool = _conv(inputs, width, 1)
        self.project = nn.Sequential(
            _conv((len(self.branches) + 1) * width, width, 1), nn.Dropout(dropout)
        )

    def forward(self, x_NCHW: Tensor) -> Tensor:
        maps = [branch(x_NCHW) for branch in self.branches]
        mean_NC11 = self.pool(x_NCHW.mean((2, 3), keepdim=True))
        projected: Tensor = self.project(torch.cat([*maps, mean_NC11.expand_as(maps[0])], dim=1))
        return projected


def _conv(inputs: int, outputs: int, size: int, rate: int = 1) -> nn.Sequential:
    padding = rate * (size // 2)
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, size, padding=padding, dilation=rate, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )

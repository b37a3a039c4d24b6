"""DeepLabV3 on MobileNetV2 as Google trained it on VOC: two branches, no batch norm in the head.

Source: Sandler et al., arXiv:1801.04381, section 6.3. Its weights for 21 classes load by their keys.
"""

import torch
from torch import Tensor, nn
from torchvision.models import MobileNet_V2_Weights, mobilenet_v2

from kdcore.models.backbones import Features
from kdcore.models.choices import choose, construct
from kdcore.models.weights import Foreign, downloading
from kdcore.spec.model import ModelSpec

_KEPT = (1, 3, 6, 10, 13, 17)
_UNSTRIDED, _DILATED = 14, (15, 16, 17)


def build_deeplabv3_mobilenetv2(spec: ModelSpec, classes: int, field: str) -> nn.Module:
    """Encoder `mobilenet_v2`. Raises: SpecError."""
    build = choose({"mobilenet_v2": mobilenet_v2}, spec, field)
    weights = MobileNet_V2_Weights.DEFAULT if spec.weights == "imagenet" else None
    with downloading(spec, field):
        backbone = build(weights=weights).features
    return construct(DeepLabV3MobileNetV2, spec, field, classes=classes, backbone=backbone)


class DeepLabV3MobileNetV2(nn.Module):
    """Logits at stride 16."""

    stage_names = tuple(f"features.{index}" for index in _KEPT)
    foreign = Foreign(renamed={"features.": "encoder.features."}, unused=("features.18.",))

    def __init__(self, *, classes: int, backbone: nn.Sequential, width: int = 256) -> None:
        super().__init__()
        self.encoder = Features(_at_stride_16(backbone[:18]), _KEPT)
        self.image_pooling = _conv(320, width)
        self.aspp0 = _conv(320, width)
        self.concat_projection = _conv(2 * width, width)
        self.logits = nn.Conv2d(width, classes, 1)

    def forward(self, images_NCHW: Tensor) -> Tensor:
        x_NCHW = self.encoder(images_NCHW)[-1]
        mean_NC11 = self.image_pooling(x_NCHW.mean((2, 3), keepdim=True))
        local_NCHW = self.aspp0(x_NCHW)
        both_NCHW = torch.cat([mean_NC11.expand_as(local_NCHW), local_NCHW], dim=1)
        logits: Tensor = self.logits(self.concat_projection(both_NCHW))
        return logits


def _at_stride_16(blocks: nn.Sequential) -> nn.Sequential:
    """The last halving becomes dilation, in the depthwise convolutions of the last four blocks."""
    for index in (_UNSTRIDED, *_DILATED):
        for layer in blocks[index].modules():
            if isinstance(layer, nn.Conv2d) and layer.kernel_size == (3, 3):
                layer.stride = (1, 1)
                if index in _DILATED:
                    layer.dilation = layer.padding = (2, 2)
    return blocks


def _conv(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1), nn.ReLU(inplace=True))

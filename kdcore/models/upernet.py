"""Hugging Face's UperNet on Swin or ConvNeXt, made from its configuration; logits at stride 4."""

from typing import Any

from torch import Tensor, nn
from transformers import UperNetConfig, UperNetForSemanticSegmentation

from kdcore.models.choices import choose, construct
from kdcore.models.hugging_face import CONVNEXTS, STAGES, SWINS, Maps, configure, load_backbone
from kdcore.spec.model import ModelSpec


def build_upernet(spec: ModelSpec, classes: int, field: str) -> nn.Module:
    """`swin_tiny` .. `convnext_base`; options are `UperNetConfig`'s. Raises: SpecError."""
    backbone = choose({**SWINS, **CONVNEXTS}, spec, field)()
    net = construct(
        UperNet, spec, field,
        backbone_config=backbone, num_labels=classes, use_auxiliary_head=False,
    )  # fmt: skip
    assert isinstance(net, UperNet)
    load_backbone(net.encoder.backbone, spec, field)
    return net


class UperNet(nn.Module):
    """UperNet (arXiv:1807.10221) without the auxiliary head and the resizing of its logits."""

    stage_names = STAGES

    def __init__(self, **settings: Any) -> None:
        super().__init__()
        whole = UperNetForSemanticSegmentation(configure(UperNetConfig, **settings))
        self.encoder = Maps(whole.backbone)
        self.decode_head = whole.decode_head

    def forward(self, images_NCHW: Tensor) -> Tensor:
        logits: Tensor = self.decode_head(self.encoder(images_NCHW))
        return logits

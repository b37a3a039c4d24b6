"""Hugging Face's SegFormer, made from its configuration; logits at stride 4."""

from typing import Any

from torch import Tensor, nn
from transformers import SegformerConfig, SegformerForSemanticSegmentation, SegformerModel

from kdcore.models.choices import choose, construct
from kdcore.models.hugging_face import STAGES, configure, load_pretrained
from kdcore.models.segformer_head import SegformerHead
from kdcore.spec.model import ModelSpec

_DEPTHS = {
    "mit_b0": (2, 2, 2, 2),
    "mit_b1": (2, 2, 2, 2),
    "mit_b2": (3, 4, 6, 3),
    "mit_b3": (3, 4, 18, 3),
    "mit_b4": (3, 8, 27, 3),
    "mit_b5": (3, 6, 40, 3),
}
"""Blocks per stage: Xie et al., arXiv:2105.15203, table 6."""


class Segformer(nn.Module):
    """The Hugging Face network behind the interface that all networks share."""

    stage_names = STAGES

    def __init__(self, **settings: Any) -> None:
        super().__init__()
        whole = SegformerForSemanticSegmentation(configure(SegformerConfig, **settings))
        self.encoder = Backbone(whole.segformer)
        self.decode_head = SegformerHead(whole.decode_head)

    def forward(self, images_NCHW: Tensor) -> Tensor:
        logits: Tensor = self.decode_head(self.encoder(images_NCHW))
        return logits


class Backbone(nn.Module):
    """The four stages' features at strides 4, 8, 16, 32, as a tuple."""

    def __init__(self, segformer: nn.Module) -> None:
        super().__init__()
        self.segformer = segformer

    def forward(self, images_NCHW: Tensor) -> tuple[Tensor, ...]:
        output = self.segformer(images_NCHW, output_hidden_states=True, return_dict=True)
        return tuple(output.hidden_states)


def build_segformer(spec: ModelSpec, classes: int, field: str) -> nn.Module:
    """SegFormer `mit_b0` .. `mit_b5`. Raises: SpecError."""
    depths = choose(_DEPTHS, spec, field)
    small = spec.encoder == "mit_b0"
    settings: dict[str, Any] = {
        "depths": list(depths),
        "hidden_sizes": [32, 64, 160, 256] if small else [64, 128, 320, 512],
        "decoder_hidden_size": 256 if spec.encoder in ("mit_b0", "mit_b1") else 768,
    }
    net = construct(Segformer, spec, field, settings, num_labels=classes)
    assert isinstance(net, Segformer)
    source = f"nvidia/{spec.encoder.replace('_', '-')}"
    load_pretrained(SegformerModel, net.encoder.segformer, spec, field, imagenet=source)
    return net

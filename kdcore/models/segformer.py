"""Hugging Face's SegFormer, made from its configuration; logits at stride 4."""

from pathlib import Path
from typing import Any

from torch import Tensor, nn
from transformers import SegformerConfig, SegformerForSemanticSegmentation, SegformerModel

from kdcore.errors import SpecError
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

    def __init__(self, config: SegformerConfig) -> None:
        super().__init__()
        whole = SegformerForSemanticSegmentation(config)
        self.encoder = Backbone(whole.segformer)
        self.decode_head = whole.decode_head

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
    if spec.encoder not in _DEPTHS:
        raise SpecError(
            f"segformer has no encoder named {spec.encoder}",
            field=f"{field}.encoder",
            remedy=", ".join(_DEPTHS),
        )
    known = SegformerConfig().to_dict()
    for name in spec.options:
        if name not in known:
            raise SpecError(f"segformer has no option {name}", field=f"{field}.options.{name}")
    small = spec.encoder == "mit_b0"
    settings: dict[str, Any] = {
        "num_labels": classes,
        "depths": list(_DEPTHS[spec.encoder]),
        "hidden_sizes": [32, 64, 160, 256] if small else [64, 128, 320, 512],
        "decoder_hidden_size": 256 if spec.encoder in ("mit_b0", "mit_b1") else 768,
        **spec.options,
    }
    net = Segformer(SegformerConfig(**settings))
    if spec.weights is not None:
        _load(net, spec, f"{field}.weights")
    return net


def _load(net: Segformer, spec: ModelSpec, field: str) -> None:
    """Backbone weights: a folder saved by `save_pretrained`, or Nvidia's on the hub for `imagenet`."""
    if spec.weights == "imagenet":
        source = f"nvidia/{spec.encoder.replace('_', '-')}"
    else:
        source = str(spec.weights)
        if not Path(source).is_dir():
            raise SpecError(
                f"{source} is no folder", field=field, remedy="a folder made by `save_pretrained`"
            )
    try:
        pretrained = SegformerModel.from_pretrained(source)
    except (OSError, ValueError) as error:
        raise SpecError(
            f"weights {source} could not be loaded: {str(error)[:300]}",
            field=field,
            remedy="give a local folder made by `save_pretrained`, or leave `weights` out",
        ) from error
    net.encoder.segformer.load_state_dict(pretrained.state_dict())

"""What the networks of transformers share: Swin and ConvNeXt backbones, and weights from folders."""

import dataclasses
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from huggingface_hub.errors import StrictDataclassError
from torch import Tensor, nn
from transformers import ConvNextConfig, PreTrainedConfig, PreTrainedModel, SwinConfig

from kdcore.errors import SpecError
from kdcore.spec.model import ModelSpec

Config = TypeVar("Config", bound=PreTrainedConfig)

STAGES = ("stage1", "stage2", "stage3", "stage4")
"""At strides 4, 8, 16, 32."""


def _swin(**settings: Any) -> PreTrainedConfig:
    return SwinConfig(**settings, **_ALL_STAGES)


def _convnext(**settings: Any) -> PreTrainedConfig:
    return ConvNextConfig(**settings, **_ALL_STAGES)


_ALL_STAGES: dict[str, Any] = {"out_features": list(STAGES)}
SWINS: dict[str, Callable[[], PreTrainedConfig]] = {
    "swin_tiny": partial(_swin, embed_dim=96, depths=[2, 2, 6, 2], num_heads=[3, 6, 12, 24]),
    "swin_small": partial(_swin, embed_dim=96, depths=[2, 2, 18, 2], num_heads=[3, 6, 12, 24]),
    "swin_base": partial(_swin, embed_dim=128, depths=[2, 2, 18, 2], num_heads=[4, 8, 16, 32]),
}
"""Liu et al., arXiv:2103.14030, section 3.3; windows of 7."""
CONVNEXTS: dict[str, Callable[[], PreTrainedConfig]] = {
    "convnext_tiny": partial(_convnext, depths=[3, 3, 9, 3], hidden_sizes=[96, 192, 384, 768]),
    "convnext_small": partial(_convnext, depths=[3, 3, 27, 3], hidden_sizes=[96, 192, 384, 768]),
    "convnext_base": partial(_convnext, depths=[3, 3, 27, 3], hidden_sizes=[128, 256, 512, 1024]),
}
"""Liu et al., arXiv:2201.03545, section 2.7."""
_IMAGENET = {
    "swin_tiny": "microsoft/swin-tiny-patch4-window7-224",
    "swin_small": "microsoft/swin-small-patch4-window7-224",
    "swin_base": "microsoft/swin-base-patch4-window7-224",
    "convnext_tiny": "facebook/convnext-tiny-224",
    "convnext_small": "facebook/convnext-small-224",
    "convnext_base": "facebook/convnext-base-224",
}


def configure(kind: type[Config], *, num_labels: int, **settings: Any) -> Config:
    """A configuration of known fields alone. Raises: ValueError."""
    unknown = settings.keys() - {field.name for field in dataclasses.fields(kind)}
    if unknown:
        raise ValueError(f"{kind.__name__} has no {', '.join(map(repr, sorted(unknown)))}")
    try:
        return kind(**{**settings, "num_labels": num_labels})
    except StrictDataclassError as error:
        raise ValueError(str(error)) from error


class Maps(nn.Module):
    """A backbone of transformers that returns its feature maps alone."""

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, images_NCHW: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.backbone(images_NCHW).feature_maps)


def load_backbone(backbone: nn.Module, spec: ModelSpec, field: str) -> None:
    """`imagenet`, or a folder made by `save_pretrained`, into a Swin or ConvNeXt. Raises: SpecError."""
    assert isinstance(backbone, PreTrainedModel)
    load_pretrained(
        type(backbone), backbone, spec, field, imagenet=_IMAGENET[spec.encoder], **_ALL_STAGES
    )


def load_pretrained(
    kind: type[PreTrainedModel],
    into: nn.Module,
    spec: ModelSpec,
    field: str,
    *,
    imagenet: str,
    **settings: Any,
) -> None:
    """Weights of the folder ``spec`` names, or for `imagenet` from the hub. Raises: SpecError.

    A file is left to `load_weights`.
    """
    source = imagenet if spec.weights == "imagenet" else spec.weights
    if source is None or (spec.weights != "imagenet" and not Path(source).is_dir()):
        return
    try:
        into.load_state_dict(kind.from_pretrained(source, **settings).state_dict())
    except (OSError, ValueError, RuntimeError) as error:
        raise SpecError(
            f"weights {source} could not be loaded: {str(error)[:300]}",
            field=f"{field}.weights",
            remedy="give a local folder made by `save_pretrained`, or leave `weights` out",
        ) from error

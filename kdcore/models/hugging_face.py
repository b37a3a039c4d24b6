"""What the networks of transformers share: Swin and ConvNeXt backbones, and weights from folders."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from transformers import ConvNextConfig, PreTrainedConfig, PreTrainedModel, SwinConfig

from kdcore.errors import SpecError
from kdcore.spec.model import ModelSpec

STAGES = ("stage1", "stage2", "stage3", "stage4")
"""At strides 4, 8, 16, 32."""

_SWINS: dict[str, Callable[[], PreTrainedConfig]] = {
    name: partial(SwinConfig, out_features=list(STAGES), **settings)
    for name, settings in _SWINS.items()
}
CONVNEXTS: dict[str, Callable[[], PreTrainedConfig]] = {
    name: partial(ConvNextConfig, out_features=list(STAGES), **settings)
    for name, settings in _CONVNEXTS.items()
}


class Maps(nn.Module):
    """A backbone of transformers that returns its feature maps alone."""

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, images_NCHW: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.backbone(images_NCHW).feature_maps)


def load_backbone(backbone: nn.Module, spec: ModelSpec, field: str) -> None:
    """`imagenet`, or a folder made by `save_pretrained`, into a Swin or ConvNeXt. Raises: SpecError."""
    if spec.weights == "imagenet":
        source = _PRETRAINED[spec.encoder]
    elif spec.weights is not None and Path(spec.weights).is_dir():
        source = spec.weights
    else:
        return
    assert isinstance(backbone, PreTrainedModel)
    load_pretrained(type(backbone), backbone, source, field, out_features=list(STAGES))


def load_pretrained(
    kind: type[PreTrainedModel], into: nn.Module, source: str, field: str, **settings: object
) -> None:
    """Weights of a folder, or of a repository on the hub, into a network. Raises: SpecError."""
    try:
        into.load_state_dict(kind.from_pretrained(source, **settings).state_dict())
    except (OSError, ValueError, RuntimeError) as error:
        raise SpecError(
            f"weights {source} could not be loaded: {str(error)[:300]}",
            field=f"{field}.weights",
            remedy="give a local folder made by `save_pretrained`, or leave `weights` out",
        ) from error

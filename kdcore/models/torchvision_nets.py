"""torchvision's FCN, DeepLabV3 and LR-ASPP; logits at stride 8, that of their dilated backbones."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn
from torchvision.models import get_model, get_model_weights, segmentation

from kdcore.models.backbones import Features, Layers
from kdcore.models.choices import choose, construct
from kdcore.models.weights import Foreign, downloading
from kdcore.spec.model import ModelSpec

_ENCODERS: dict[str, tuple[str, ...]] = {
    "torchvision_fcn": ("resnet50", "resnet101"),
    "torchvision_deeplabv3": ("resnet50", "resnet101", "mobilenet_v3_large"),
    "torchvision_lraspp": ("mobilenet_v3_large",),
}
_RESNET_STAGES = ("relu", "layer1", "layer2", "layer3", "layer4")


def build_torchvision(spec: ModelSpec, classes: int, field: str) -> nn.Module:
    """``options.aux``: see `DilatedNet`. Raises: SpecError."""
    encoder = choose({name: name for name in _ENCODERS[spec.arch]}, spec, field)
    kind = spec.arch.removeprefix("torchvision_")
    network = LrAspp if kind == "lraspp" else DilatedNet
    return construct(
        network, spec, field, kind=f"{kind}_{encoder}", classes=classes,
        backbone=_imagenet(spec, encoder, field),
    )  # fmt: skip


class DilatedNet(nn.Module):
    """FCN and DeepLabV3: one head on the last map.

    ``aux``: the weights of a second head, for files that carry one: True for torchvision's own,
    `linear` for the single 1x1 convolution that the desert system put in its place.
    """

    stage_names: tuple[str, ...]
    foreign: Foreign

    def __init__(
        self,
        *,
        kind: str,
        classes: int,
        backbone: Mapping[str, Tensor] | None,
        aux: bool | str = False,
    ) -> None:
        super().__init__()
        if aux not in (False, True, "linear"):
            raise ValueError(f"aux is true, false or linear, not {aux}")
        whole = segmentation.__dict__[kind](
            weights=None, weights_backbone=None, num_classes=classes, aux_loss=bool(aux)
        )
        self.encoder, self.stage_names, prefix = _staged(whole.backbone)
        self.foreign = Foreign(renamed={"backbone.": prefix, "aux_classifier.": "auxiliary."})
        self.classifier = whole.classifier
        self.auxiliary = whole.aux_classifier
        if aux == "linear":
            self.auxiliary = nn.Conv2d(whole.aux_classifier[0].in_channels, classes, 1)
        _start(self.encoder, backbone)

    def forward(self, images_NCHW: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.encoder(images_NCHW)[-1])
        return logits


class LrAspp(nn.Module):
    """LR-ASPP (arXiv:1905.02244): the last map, gated by its mean, beside a map at stride 8."""

    stage_names: tuple[str, ...]
    foreign: Foreign

    def __init__(self, *, kind: str, classes: int, backbone: Mapping[str, Tensor] | None) -> None:
        super().__init__()
        whole = segmentation.__dict__[kind](
            weights=None, weights_backbone=None, num_classes=classes
        )
        low = list(whole.backbone).index(
            next(key for key, name in whole.backbone.return_layers.items() if name == "low")
        )
        self.encoder, self.stage_names, prefix = _staged(whole.backbone)
        self.foreign = Foreign(renamed={"backbone.": prefix})
        self.low = self.stage_names.index(f"features.{low}")
        self.classifier = whole.classifier
        _start(self.encoder, backbone)

    def forward(self, images_NCHW: Tensor) -> Tensor:
        maps = self.encoder(images_NCHW)
        logits: Tensor = self.classifier({"low": maps[self.low], "high": maps[-1]})
        return logits


def _staged(backbone: Any) -> tuple[nn.Module, tuple[str, ...], str]:
    """The encoder, its stages' names, and its keys' prefix."""
    layers = dict(backbone.named_children())
    if "layer1" in layers:
        names = ("conv1", *_RESNET_STAGES[1:])
        return Layers(layers, _RESNET_STAGES), names, "encoder."
    kept = _stage_ends(list(layers.values()))
    return Features(layers, kept), tuple(f"features.{i}" for i in kept), "encoder.features."


def _stage_ends(blocks: Sequence[Any]) -> tuple[int, ...]:
    """MobileNet: torchvision marks the blocks that halve (or would, if not dilated); and the last."""
    starts = [index for index, block in enumerate(blocks) if getattr(block, "_is_cn", False)]
    return (0, *starts, len(blocks) - 1)


def _imagenet(spec: ModelSpec, encoder: str, field: str) -> Mapping[str, Tensor] | None:
    if spec.weights != "imagenet":
        return None
    with downloading(spec, field):
        model: nn.Module = get_model(encoder, weights=get_model_weights(encoder).DEFAULT)
    return model.state_dict()


def _start(encoder: nn.Module, weights: Mapping[str, Tensor] | None) -> None:
    if weights is not None:
        own = encoder.state_dict()
        encoder.load_state_dict({key: value for key, value in weights.items() if key in own})

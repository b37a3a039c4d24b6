"""Networks of segmentation-models-pytorch, by architecture and encoder (its own and timm's)."""

import inspect
from collections.abc import Iterable, Mapping

import segmentation_models_pytorch as smp
import timm
from torch import nn

from kdcore.errors import SpecError
from kdcore.models.choices import field_at_fault, nearest
from kdcore.models.weights import downloading
from kdcore.spec.model import ModelSpec

_OF_TIMM = "tu-"


def build_smp(spec: ModelSpec, classes: int, field: str) -> nn.Module:
    """An smp network with raw logits. Raises: SpecError."""
    check_encoder(spec, field)
    _check_options(spec, field)
    # Of a vision transformer, smp's dpt takes images of one size alone unless told otherwise.
    sizes = {"dynamic_img_size": True} if spec.arch == "dpt" else {}
    try:
        with downloading(spec, field):
            net: nn.Module = smp.create_model(
                spec.arch,
                encoder_name=spec.encoder,
                encoder_weights=download(spec),
                in_channels=3,
                classes=classes,
                **{**sizes, **_plain(spec.options)},
            )
    except (OSError, RuntimeError, TypeError, ValueError, KeyError) as error:
        raise SpecError(
            f"{spec.arch} with {spec.encoder} cannot be built: {error}",
            field=field_at_fault(error, spec, field, otherwise=field),
        ) from error
    return net


def check_encoder(spec: ModelSpec, field: str) -> None:
    """Raises: SpecError, when neither smp nor, after `tu-`, timm has such an encoder."""
    known: Iterable[str] = smp.encoders.encoders
    if spec.encoder.startswith(_OF_TIMM):
        # timm adds the name of a set of weights after a dot.
        if timm.is_model(spec.encoder.removeprefix(_OF_TIMM).split(".")[0]):
            return
        known = [f"{_OF_TIMM}{name}" for name in timm.list_models()]
    elif spec.encoder in known:
        return
    raise SpecError(
        f"no encoder named {spec.encoder}",
        field=f"{field}.encoder",
        remedy=nearest(
            spec.encoder, known, otherwise="smp's encoders, or `tu-` and the name of a timm model"
        ),
    )


def _check_options(spec: ModelSpec, field: str) -> None:
    """smp hands what it does not know to the encoder; its own encoders say nothing of it, timm's do."""
    known = inspect.signature(smp.MODEL_ARCHITECTURES_MAPPING[spec.arch]).parameters
    unknown = [name for name in spec.options if name not in known]
    if unknown and not spec.encoder.startswith(_OF_TIMM):
        raise SpecError(
            f"{spec.arch} has no option {unknown[0]}", field=f"{field}.options.{unknown[0]}"
        )


def download(spec: ModelSpec) -> str | bool | None:
    """smp's argument for the encoder's weights; timm's are named by the encoder."""
    if spec.weights != "imagenet":
        return None
    return True if spec.encoder.startswith(_OF_TIMM) else "imagenet"


def _plain(options: Mapping[str, object]) -> dict[str, object]:
    return {key: list(v) if isinstance(v, tuple) else v for key, v in options.items()}

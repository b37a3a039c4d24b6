"""Networks of segmentation-models-pytorch, by architecture and encoder (its own and timm's)."""

from collections.abc import Mapping
from pathlib import Path

import segmentation_models_pytorch as smp
import torch
from torch import nn

from kdcore.errors import SpecError
from kdcore.spec.model import ModelSpec


def build_smp(spec: ModelSpec, classes: int, field: str) -> nn.Module:
    """An smp network with raw logits. Raises: SpecError."""
    if not spec.encoder.startswith("tu-") and spec.encoder not in smp.encoders.encoders:
        raise SpecError(
            f"no encoder named {spec.encoder}",
            field=f"{field}.encoder",
            remedy="smp's encoders, or `tu-` and the name of a timm model",
        )
    download = "imagenet" if spec.weights == "imagenet" else None
    try:
        net: nn.Module = smp.create_model(
            spec.arch,
            encoder_name=spec.encoder,
            encoder_weights=download,
            in_channels=3,
            classes=classes,
            **_plain(spec.options),
        )
    except (OSError, RuntimeError) as error:
        if download is None:
            raise _unusable(spec, field, error) from error
        raise SpecError(
            f"imagenet weights of {spec.encoder} could not be downloaded: {error}",
            field=f"{field}.weights",
            remedy="give the path of a local weights file, or leave `weights` out",
        ) from error
    except (TypeError, ValueError, KeyError) as error:
        raise _unusable(spec, field, error) from error
    if spec.weights is not None and download is None:
        load_encoder(net, Path(spec.weights), f"{field}.weights")
    return net


def load_encoder(net: nn.Module, path: Path, field: str) -> None:
    """Fill ``net.encoder`` from a local state dict, read without unpickling code; keys must match.

    Raises: SpecError.
    """
    encoder = net.encoder
    assert isinstance(encoder, nn.Module)
    try:
        encoder.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    # Whatever is wrong with a weights file from outside, the user is told which file and field.
    except Exception as error:
        raise SpecError(
            f"{path.name} does not fit the encoder: {str(error)[:500]}",
            field=field,
            remedy="a state dict of this very encoder, saved by torch.save",
        ) from error


def _unusable(spec: ModelSpec, field: str, error: Exception) -> SpecError:
    return SpecError(f"{spec.arch} with {spec.encoder} cannot be built: {error}", field=field)


def _plain(options: Mapping[str, object]) -> dict[str, object]:
    return {key: list(v) if isinstance(v, tuple) else v for key, v in options.items()}

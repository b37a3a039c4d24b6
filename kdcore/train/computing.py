"""How a training computes on its machine: every `auto` is made a choice once, before the first step.

The choices depend on network and device alone, never on a measurement, so that a run which goes on
elsewhere on equal hardware computes as it began. What they rest on is in `docs/performance.md`.
"""

from typing import Literal

import torch
from torch import nn

from kdcore.models.network import SegmentationModel
from kdcore.spec.train import TrainSpec

MemoryFormat = Literal["contiguous", "channels_last"]
_CPU_BF16 = ("avx512_bf16", "amx_bf16")
LAYOUTS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}


def resolve(spec: TrainSpec, model: SegmentationModel, device: torch.device) -> TrainSpec:
    """``spec`` for ``model`` on ``device``, without an `auto` among precision, layout and compiling."""
    return spec.model_copy(
        update={
            "precision": precision_of(spec, model, device),
            "memory_format": memory_format_of(spec, model, device),
            # On a GPU it is meant to be on, once gradients were shown to be equal there.
            "compile": "off" if spec.compile == "auto" else spec.compile,
        }
    )


def precision_of(
    spec: TrainSpec, model: SegmentationModel, device: torch.device, *, frozen: bool = False
) -> str:
    """`auto` is bf16 where the hardware multiplies it: on a CPU for transformers, and for
    ``frozen`` networks without depthwise convolutions.

    A CPU has no such products for depthwise convolutions, and training small networks loses by the
    conversions.
    """
    if spec.precision != "auto":
        return spec.precision
    if device.type == "cuda":
        pays = torch.cuda.is_bf16_supported()
    else:
        capable = torch.cpu.get_capabilities()
        dense = _has_layer_norms(model) or (frozen and not _has_depthwise(model))
        pays = dense and any(capable.get(name) for name in _CPU_BF16)
    return "bf16" if pays else "fp32"


def memory_format_of(
    spec: TrainSpec, model: SegmentationModel, device: torch.device
) -> MemoryFormat:
    """`auto` is channels_last for convolutional encoders; on a CPU for those of depthwise ones alone.

    Encoders with layer norms (transformers, ConvNeXt) bring their maps into an order of their own.
    """
    if spec.memory_format != "auto":
        return spec.memory_format
    pays = not _has_layer_norms(model) and (device.type == "cuda" or _has_depthwise(model))
    return "channels_last" if pays else "contiguous"


def _has_layer_norms(model: SegmentationModel) -> bool:
    """Whether the encoder is a transformer, or a network built like one (ConvNeXt)."""
    return any(isinstance(part, nn.LayerNorm) for part in model.encoder.modules())


def _has_depthwise(model: SegmentationModel) -> bool:
    parts = model.encoder.modules()
    return any(isinstance(part, nn.Conv2d) and part.groups > 1 for part in parts)

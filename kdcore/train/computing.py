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
_SMALL = 1_000_000
"""Parameters; smaller networks lose on a CPU by the conversions what the products bring."""
LAYOUTS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}


def resolve(spec: TrainSpec, model: SegmentationModel, device: torch.device) -> TrainSpec:
    """``spec`` for ``model`` on ``device``, without an `auto` among precision, layout and compiling."""
    return spec.model_copy(
        update={
            "precision": precision_of(spec, model, device),
            "memory_format": memory_format_of(spec, model),
            # On a GPU it is meant to be on, once gradients were shown to be equal there.
            "compile": "off" if spec.compile == "auto" else spec.compile,
        }
    )


def precision_of(spec: TrainSpec, model: SegmentationModel, device: torch.device) -> str:
    """`auto` is bf16 where the hardware multiplies it, on a CPU for networks that are not small."""
    if spec.precision != "auto":
        return spec.precision
    if device.type == "cuda":
        pays = torch.cuda.is_bf16_supported()
    else:
        capable = torch.cpu.get_capabilities()
        large = sum(parameter.numel() for parameter in model.parameters()) >= _SMALL
        pays = large and any(capable.get(name) for name in _CPU_BF16)
    return "bf16" if pays else "fp32"


def memory_format_of(spec: TrainSpec, model: SegmentationModel) -> MemoryFormat:
    """`auto` is channels_last for convolutional encoders.

    Encoders with layer norms (transformers, ConvNeXt) bring their maps into an order of their own.
    """
    if spec.memory_format != "auto":
        return spec.memory_format
    return "contiguous" if _has_layer_norms(model) else "channels_last"


def _has_layer_norms(model: SegmentationModel) -> bool:
    """Whether the encoder is a transformer, or a network built like one (ConvNeXt)."""
    return any(isinstance(part, nn.LayerNorm) for part in model.encoder.modules())

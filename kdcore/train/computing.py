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
LAYOUTS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}


def resolve(spec: TrainSpec, model: SegmentationModel, device: torch.device) -> TrainSpec:
    """``spec`` for ``model`` on ``device``, without an `auto` among precision, layout and compiling."""
    on_gpu = device.type == "cuda"
    compile_ = ("on" if on_gpu else "off") if spec.compile == "auto" else spec.compile
    return spec.model_copy(
        update={
            "precision": precision_of(spec, device),
            "memory_format": memory_format_of(spec, model, device),
            "compile": compile_,
        }
    )


def precision_of(spec: TrainSpec, device: torch.device) -> str:
    """`auto` is bf16 on a GPU that has it, fp32 elsewhere."""
    if spec.precision != "auto":
        return spec.precision
    return "bf16" if device.type == "cuda" and torch.cuda.is_bf16_supported() else "fp32"


def memory_format_of(
    spec: TrainSpec, model: SegmentationModel, device: torch.device
) -> MemoryFormat:
    """`auto` is channels_last for convolutional encoders; on a CPU for those of depthwise ones alone.

    Encoders with layer norms (transformers, ConvNeXt) bring their maps into an order of their own.
    """
    if spec.memory_format != "auto":
        return spec.memory_format
    parts = list(model.encoder.modules())
    convolutional = not any(isinstance(part, nn.LayerNorm) for part in parts)
    depthwise = any(isinstance(part, nn.Conv2d) and part.groups > 1 for part in parts)
    pays = convolutional and (device.type == "cuda" or depthwise)
    return "channels_last" if pays else "contiguous"

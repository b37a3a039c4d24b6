"""Size and speed of a network, measured."""

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from kdcore.models.network import SegmentationModel
from kdcore.spec.experiment import LatencySpec


def parameters(model: SegmentationModel) -> int:
    """Number of parameters, buffers not counted."""
    return sum(p.numel() for p in model.parameters())


@torch.inference_mode()
def flops(model: SegmentationModel, size: tuple[int, int]) -> int:
    """Floating point operations for one image of ``size`` (height, width): 2 per multiply-add."""
    images_1CHW = torch.zeros(1, 3, *size, device=_device(model))
    with FlopCounterMode(display=False) as counter:
        model(images_1CHW)
    return int(counter.get_total_flops())


@torch.inference_mode()
def latency(
    model: SegmentationModel,
    spec: LatencySpec,
    size: tuple[int, int],
    *,
    between: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """p50 and p99 in milliseconds for one uint8 image in, logits out, copy to the device included.

    Fixed threads, ``spec.warmup`` runs before the timed ones; resize and argmax are not in it.
    """
    device = _device(model)
    image = torch.randint(0, 256, (1, 3, *size), dtype=torch.uint8)
    threads = torch.get_num_threads()
    torch.set_num_threads(spec.threads)
    try:
        times = []
        for run in range(spec.warmup + spec.runs):
            between()
            begun = time.perf_counter()
            model(image.to(device))
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            if run >= spec.warmup:
                times.append(1000 * (time.perf_counter() - begun))
    finally:
        torch.set_num_threads(threads)
    p50, p99 = np.percentile(times, [50, 99])
    return {
        "p50": float(p50),
        "p99": float(p99),
        "threads": spec.threads,
        "size": size,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "runtime": f"torch {torch.__version__.split('+')[0]}",
        "precision": "fp32",
        "batch": 1,
        "runs": spec.runs,
    }


def _device(model: nn.Module) -> torch.device:
    return next(model.parameters()).device

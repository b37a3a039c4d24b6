"""What the device can do at most: matrix products and copies; and the least time a step could take."""

from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

import torch

from benchmarks.speed.device import meter
from benchmarks.speed.workload import Pair

_REPEATS = 7
_SIDES = {"cpu": 2048, "cuda": 8192}
_COPY_BYTES = {"cpu": 2**28, "cuda": 2**31}
_SMALL_SIDE, _SMALL_COPY = 64, 2**16


@dataclass(frozen=True)
class Ceilings:
    """``gemm_fp32`` and ``gemm_bf16`` in FLOP/s of square products, ``copy`` in bytes/s, read and
    written bytes both counted.
    """

    gemm_fp32: float
    gemm_bf16: float
    copy: float


def measure_ceilings(device: torch.device, threads: int, *, small: bool = False) -> Ceilings:
    """Medians of 7, without TF32. ``small``: to see that it runs; too small to be a ceiling."""
    torch.set_num_threads(threads)
    side = _SMALL_SIDE if small else _SIDES[device.type]
    copied = _SMALL_COPY if small else _COPY_BYTES[device.type]
    source = torch.zeros(copied, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return Ceilings(
        _gemm(side, torch.float32, device),
        _gemm(side, torch.bfloat16, device),
        2 * copied / _seconds(lambda: target.copy_(source), device),
    )


def _gemm(side: int, dtype: torch.dtype, device: torch.device) -> float:
    left, right = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    return float(2 * side**3 / _seconds(lambda: left @ right, device))


def _seconds(work: Callable[[], object], device: torch.device) -> float:
    clock = meter(device)
    work()
    clock.mark()
    for _ in range(_REPEATS):
        work()
        clock.mark()
    return median(clock.seconds())


@dataclass(frozen=True)
class _Piece:
    """Of one image at 512×512 with 19 classes in bf16: GFLOP, and GB that fused code moves."""

    gflop: float
    gigabytes: float


_SEGFORMER_B3 = _Piece(77, 1.23)
"""With its head folded."""
_DEEPLAB_R50 = _Piece(73, 0.39)
_SEGFORMER_B1 = _Piece(75, 1.38)
"""Forward and backward."""
_UNET = _Piece(78, 0.90)
"""UNet-MobileNetV3L, forward and backward."""
_LOSS = _Piece(0, 0.003)
"""Fused, from logits at stride 4."""
_PIECES: dict[Pair, tuple[_Piece, ...]] = {
    "sf": (_SEGFORMER_B3, _SEGFORMER_B1, _LOSS),
    "cnn": (_DEEPLAB_R50, _UNET, _LOSS),
    "ens": (_SEGFORMER_B3, _DEEPLAB_R50, _SEGFORMER_B1, _LOSS),
}
FLOOR_SIZE, FLOOR_CLASSES = 512, 19


def floor_seconds(pair: Pair, ceilings: Ceilings) -> float:
    """Of one image at 512×512, 19 classes: each piece at the slower of products and memory."""
    return sum(
        max(1e9 * piece.gflop / ceilings.gemm_bf16, 1e9 * piece.gigabytes / ceilings.copy)
        for piece in _PIECES[pair]
    )

"""Tiles of a batch small enough for a cache, with bilinear interpolation onto them and its transpose.

Interpolation with align_corners=False is separable: a matrix (H, h) for the rows and one (W, w) for
the columns, each with at most two weights a line. A tile is the product of blocks of both with the
places that they read, and what flows back is the product of the same blocks, transposed.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

_FLOATS_CPU, _FLOATS_GPU = 2**19, 2**27
"""Numbers in a tile: on a CPU few enough for its caches, on a GPU enough to fill it."""
_BLOCK = 64
"""Columns in one product, and the fewest in a tile: of longer matrices most is zeros."""
_ROWS = 16
"""Rows that a tile should have: fewer read nearly as many places as they write."""


@dataclass(frozen=True)
class Tile:
    images: slice
    rows: slice
    columns: slice

    def of(self, values: Tensor) -> Tensor:
        """A view of (N, H, W) or (N, C, H, W)."""
        return values[self.images][..., self.rows, self.columns]

    def shape(self, channels: int) -> tuple[int, int, int, int]:
        sides = [part.stop - part.start for part in (self.images, self.rows, self.columns)]
        return sides[0], channels, sides[1], sides[2]


def tiles(
    images: int, channels: int, size: tuple[int, int], *, device: torch.device
) -> Iterator[Tile]:
    """Tiles that together are all of (N, C, H, W), as equal in shape as that allows."""
    height, width = size
    lines = max(1, (_FLOATS_CPU if device.type == "cpu" else _FLOATS_GPU) // channels)
    columns = min(width, max(_BLOCK, lines // _ROWS // _BLOCK * _BLOCK))
    rows = min(height, max(1, lines // columns))
    at_once = max(1, lines // (height * width))
    for some in _parts(images, at_once):
        for down in _parts(height, rows):
            for across in _parts(width, columns):
                yield Tile(some, down, across)


class Bilinear:
    """Between images (N, C, h, w) and tiles of (N, C, H, W)."""

    def __init__(self, source: tuple[int, int], target: tuple[int, int], *, like: Tensor) -> None:
        self._rows = _Axis(source[0], target[0], like=like)
        self._columns = _Axis(source[1], target[1], like=like)

    def enlarge(self, images_NChw: Tensor, tile: Tile, *, out: Tensor) -> Tensor:
        """``tile`` of the images at the target's size, written to ``out``."""
        read, weights_Rk = self._rows.block(tile.rows)
        lines_Lw = images_NChw[tile.images, :, read].flatten(0, 2)
        lines_LB = lines_Lw.new_empty(len(lines_Lw), out.shape[-1])
        for block in _parts(out.shape[-1], _BLOCK):
            places, weights_Bp = self._columns.block(block, tile.columns.start)
            torch.mm(lines_Lw[:, places], weights_Bp.T, out=lines_LB[:, block])
        return torch.matmul(weights_Rk, lines_LB.view(*out.shape[:2], -1, out.shape[-1]), out=out)

    def add_transposed(self, values_NCHW: Tensor, tile: Tile, *, to: Tensor) -> None:
        """Add what the gradient of ``tile`` is for the images, to ``to`` (N, C, h, w)."""
        read, weights_Rk = self._rows.block(tile.rows)
        lines_LB = torch.matmul(weights_Rk.T, values_NCHW).flatten(0, 2)
        into_NChw = to[tile.images, :, read]
        for block in _parts(lines_LB.shape[1], _BLOCK):
            places, weights_Bp = self._columns.block(block, tile.columns.start)
            lines_Lp = torch.mm(lines_LB[:, block], weights_Bp)
            into_NChw[..., places] += lines_Lp.view(*into_NChw.shape[:3], -1)


class _Axis:
    """Interpolation along one axis, from ``source`` to ``target`` places."""

    def __init__(self, source: int, target: int, *, like: Tensor) -> None:
        self._source, self._target = source, target
        self._ratio = source / target
        self._weights_TS = self._matrix().to(like)

    def block(self, lines: slice, offset: int = 0) -> tuple[slice, Tensor]:
        """The places that ``lines`` read, and their weights (lines, places)."""
        start, stop = lines.start + offset, lines.stop + offset
        low, high = int(self._place(start)), int(self._place(stop - 1))
        read = slice(low, min(high + 2, self._source))
        return read, self._weights_TS[start:stop, read]

    def _place(self, line: int) -> float:
        return max(0.0, (line + 0.5) * self._ratio - 0.5)

    def _matrix(self) -> Tensor:
        line_T = torch.arange(self._target)
        place_T = ((line_T.double() + 0.5) * self._ratio - 0.5).clamp(min=0)
        low_T = place_T.long()
        matrix_TS = torch.zeros(self._target, self._source, dtype=torch.float64)
        matrix_TS[line_T, low_T] = 1 - (place_T - low_T)
        # The last place has no neighbour: it takes both weights.
        matrix_TS[line_T, (low_T + 1).clamp(max=self._source - 1)] += place_T - low_T
        return matrix_TS


def _parts(length: int, size: int) -> Iterator[slice]:
    for start in range(0, length, size):
        yield slice(start, min(start + size, length))


@contextmanager
def full_float32() -> Iterator[None]:
    """Matrix products in float32, whatever TF32 or bfloat16 the process allows for them."""
    allowed = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(allowed)

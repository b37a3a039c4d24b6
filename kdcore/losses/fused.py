"""Cross entropy and divergence of softmaxes with their gradients, tile by tile.

Logits of any grid are interpolated onto the pixels of the weights one tile at a time, and the
gradient of each tile flows back at once: no tensor of all classes has the pixels' size, unless the
logits themselves have it. Exponents are of base 2, which torch computes faster than those of e.
"""

from collections.abc import Callable
from math import log, prod
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from kdcore.losses.masking import size_of, spatial, wide
from kdcore.losses.tiles import Bilinear, Tile, full_float32, tiles

_LN2 = log(2)

Pixelwise = Callable[[Tile, Tensor], Tensor]
"""Takes logits / ln 2 of a tile, a buffer to overwrite; returns the tile's loss and leaves there its
gradient by the logits."""


def mean_cross_entropy(logits_NChw: Tensor, labels_NHW: Tensor, weights_NHW: Tensor) -> Tensor:
    """Σ w · -log p_y / Σ w over pixels, p the softmax of the logits; 0 where all w are 0.

    Logits are resized to the labels (bilinear). Labels must be classes, also where w = 0.
    """
    weights_NHW = _shares(weights_NHW, like=logits_NChw)

    def pixelwise(tile: Tile, exponents_NCHW: Tensor) -> Tensor:
        labels_N1HW = tile.of(labels_NHW)[:, None]
        weights_N1HW = tile.of(weights_NHW)[:, None]
        exponents_NCHW -= exponents_NCHW.amax(1, keepdim=True)
        true_N1HW = exponents_NCHW.gather(1, labels_N1HW)
        powers_NCHW = exponents_NCHW.exp2_()
        sums_N1HW = powers_NCHW.sum(1, keepdim=True)
        powers_NCHW *= weights_N1HW / sums_N1HW
        powers_NCHW.scatter_add_(1, labels_N1HW, -weights_N1HW)
        return ((sums_N1HW.log2() - true_N1HW) * weights_N1HW).sum() * _LN2

    return _over_tiles(logits_NChw, size_of(labels_NHW), 1 / _LN2, pixelwise)


def mean_divergence(
    student_NChw: Tensor, teacher_NChw: Tensor, weights_NHW: Tensor, *, temperature: float
) -> Tensor:
    """Σ w · KL(p_t, p_s) / Σ w over pixels, p the softmax of logits / τ; 0 where all w are 0.

    Both are resized to the weights (bilinear). No gradient reaches the teacher.
    """
    weights_NHW = _shares(weights_NHW, like=student_NChw)
    scale = 1 / (temperature * _LN2)
    teacher = _Exponents(teacher_NChw, size_of(weights_NHW), scale)
    differences = _Buffer(like=weights_NHW)

    def pixelwise(tile: Tile, student_NCHW: Tensor) -> Tensor:
        teacher_NCHW = teacher.at(tile)
        weights_N1HW = tile.of(weights_NHW)[:, None]
        student_NCHW -= student_NCHW.amax(1, keepdim=True)
        teacher_NCHW -= teacher_NCHW.amax(1, keepdim=True)
        difference_NCHW = differences.shaped(student_NCHW.shape)
        torch.sub(teacher_NCHW, student_NCHW, out=difference_NCHW)
        of_student_N1HW = student_NCHW.exp2_().sum(1, keepdim=True)
        of_teacher_N1HW = teacher_NCHW.exp2_().sum(1, keepdim=True)
        expected_N1HW = difference_NCHW.mul_(teacher_NCHW).sum(1, keepdim=True) / of_teacher_N1HW
        divergence_N1HW = expected_N1HW + of_student_N1HW.log2() - of_teacher_N1HW.log2()
        student_NCHW *= weights_N1HW / (of_student_N1HW * temperature)
        teacher_NCHW *= weights_N1HW / (of_teacher_N1HW * temperature)
        student_NCHW -= teacher_NCHW
        return (divergence_N1HW * weights_N1HW).sum() * _LN2

    return _over_tiles(student_NChw, size_of(weights_NHW), scale, pixelwise)


def _shares(weights_NHW: Tensor, *, like: Tensor) -> Tensor:
    """Weights of sum 1, if any is more than 0, in the dtype of the arithmetic."""
    weights_NHW = weights_NHW.to(wide(like[:0]).dtype)
    total = weights_NHW.sum()
    return weights_NHW / total.where(total > 0, 1)


def _over_tiles(
    logits_NChw: Tensor, size: tuple[int, int], scale: float, pixelwise: Pixelwise
) -> Tensor:
    learns = logits_NChw.requires_grad and torch.is_grad_enabled()
    device = logits_NChw.device
    with torch.no_grad(), torch.autocast(device.type, enabled=False), full_float32():
        exponents = _Exponents(logits_NChw, size, scale)
        losses = []
        gradient_NChw = exponents.gradient()
        images, channels = logits_NChw.shape[:2]
        for tile in tiles(images, channels, size, device=device):
            values_NCHW = exponents.at(tile)
            losses.append(pixelwise(tile, values_NCHW))
            if learns:
                exponents.add_gradient(values_NCHW, tile, to=gradient_NChw)
        loss = torch.stack(losses).sum()
    if not learns:
        return loss
    result: Tensor = _Differentiated.apply(logits_NChw, loss, gradient_NChw)
    return result


class _Differentiated(torch.autograd.Function):
    """A loss with the gradient that was computed beside it."""

    @staticmethod
    def forward(ctx: Any, logits_NChw: Tensor, loss: Tensor, gradient_NChw: Tensor) -> Tensor:
        ctx.save_for_backward(gradient_NChw.to(logits_NChw.dtype))
        return loss.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, outer: Tensor) -> tuple[Tensor, None, None]:
        (gradient_NChw,) = ctx.saved_tensors
        return outer.to(gradient_NChw) * gradient_NChw, None, None


class _Exponents:
    """Logits (N, C, h, w) · scale, in float32 or better, at the pixels of ``size``."""

    def __init__(self, logits_NChw: Tensor, size: tuple[int, int], scale: float) -> None:
        self._scale = scale
        self._logits_NChw = logits_NChw.detach()
        self._bilinear: Bilinear | None = None
        self._buffer = _Buffer(like=wide(self._logits_NChw[:0]))
        if spatial(logits_NChw) != size:
            self._logits_NChw = (wide(self._logits_NChw) * scale).contiguous()
            self._bilinear = Bilinear(spatial(logits_NChw), size, like=self._logits_NChw)

    def at(self, tile: Tile) -> Tensor:
        """Those of a tile, to be overwritten at will; the next call does."""
        values_NCHW = self._buffer.shaped(tile.shape(self._logits_NChw.shape[1]))
        if self._bilinear is None:
            return torch.mul(wide(tile.of(self._logits_NChw)), self._scale, out=values_NCHW)
        return self._bilinear.enlarge(self._logits_NChw, tile, out=values_NCHW)

    def add_gradient(self, values_NCHW: Tensor, tile: Tile, *, to: Tensor) -> None:
        """Add to ``to`` (N, C, h, w) the gradient by the logits that ``values_NCHW`` are of a tile."""
        if self._bilinear is None:
            tile.of(to).copy_(values_NCHW)
        else:
            self._bilinear.add_transposed(values_NCHW, tile, to=to)

    def gradient(self) -> Tensor:
        """Of the logits' shape, in the dtype of the arithmetic: what `add_gradient` of all tiles fills."""
        make = torch.empty if self._bilinear is None else torch.zeros
        like = self._logits_NChw
        return make(like.shape, dtype=self._buffer.dtype, device=like.device)


class _Buffer:
    """One piece of memory for tiles of any shape up to that of the first."""

    def __init__(self, *, like: Tensor) -> None:
        self._memory = like.new_empty(0)
        self.dtype = like.dtype

    def shaped(self, shape: tuple[int, ...]) -> Tensor:
        if self._memory.numel() < prod(shape):
            self._memory = self._memory.new_empty(prod(shape))
        return self._memory[: prod(shape)].view(shape)

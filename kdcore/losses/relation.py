"""Losses between relations: correlations of classes and pixels, similarities of pairs of places."""

import torch
import torch.nn.functional as F
from torch import Tensor

from kdcore.losses.masking import align, pixels, spatial, valid_at, zero
from kdcore.spec.dataset import IGNORE


def dist(
    student_NCHW: Tensor,
    teacher_NCHW: Tensor,
    labels_NHW: Tensor,
    *,
    temperature: float = 1.0,
    beta: float = 1.0,
    gamma: float = 1.0,
    ignore_index: int = IGNORE,
) -> Tensor:
    """τ² · (β (1 - ρ_pixel) + γ (1 - ρ_class)), ρ the mean Pearson correlation of probabilities.

    Probabilities are the softmax over classes of logits / τ of all valid pixels of the batch, (P, C).
    ρ_pixel is over the classes of a pixel (the paper's inter-class relation), ρ_class over the pixels
    of a class (intra-class). Source: Huang et al., arXiv:2205.10536, its L_inter and L_intra, and the
    authors' code (β = γ = 1, τ = 1, times τ²). Their code takes (B, C): NCHW gives it another value.
    """
    student_NCHW, teacher_NCHW = align(student_NCHW, teacher_NCHW)
    valid_NHW = valid_at(labels_NHW, spatial(student_NCHW), ignore_index=ignore_index)
    if not bool(valid_NHW.any()):
        return zero(student_NCHW)
    student_PC = (pixels(student_NCHW, valid_NHW) / temperature).softmax(dim=1)
    teacher_PC = (pixels(teacher_NCHW, valid_NHW) / temperature).softmax(dim=1)
    value = beta * (1 - _pearson(student_PC, teacher_PC).mean())
    if student_PC.shape[0] > 1:
        value = value + gamma * (1 - _pearson(student_PC.T, teacher_PC.T).mean())
    return temperature**2 * value


def skd(
    student_NCHW: Tensor,
    teacher_NCHW: Tensor,
    labels_NHW: Tensor,
    *,
    pool: int = 2,
    scale: float | None = None,
    ignore_index: int = IGNORE,
) -> Tensor:
    """MSE of the cosines of all pairs of places of an image, after max-pooling its valid pixels.

    Student and teacher (N, c, h, w) may differ in width. The mean is over all pairs of cells with a
    valid pixel, of all images. ``pool``: window and stride (CIRKD's code: 2). ``scale``: instead the
    window is int(scale · side) of each side, as in the original code (0.5: four cells).
    Source: Liu et al., arXiv:1903.04197, its pair-wise loss; weight 0.5 to 1 there, 10 in CIRKD's
    code. Memory N · (cells)²: pool larger maps more.
    """
    student_NCHW, teacher_NCHW = align(student_NCHW, teacher_NCHW)
    valid_NHW = valid_at(labels_NHW, spatial(student_NCHW), ignore_index=ignore_index)
    height, width = spatial(student_NCHW)
    window = (
        (min(pool, height), min(pool, width))
        if scale is None
        else (max(1, int(scale * height)), max(1, int(scale * width)))
    )
    cells_NL = _pooled_valid(valid_NHW, window).flatten(1)
    if not bool(cells_NL.any()):
        return zero(student_NCHW)
    student_NCL = _directions(_max_pooled(student_NCHW, valid_NHW, window), cells_NL)
    teacher_NCL = _directions(_max_pooled(teacher_NCHW, valid_NHW, window), cells_NL)
    # An empty cell is the zero vector on both sides, so its pairs differ by exactly 0.
    difference_NLL = student_NCL.mT @ student_NCL - teacher_NCL.mT @ teacher_NCL
    return difference_NLL.square().sum() / cells_NL.sum(dim=1).square().sum()


def cirkd(
    student_NCHW: Tensor,
    teacher_NCHW: Tensor,
    labels_NHW: Tensor,
    *,
    temperature: float = 0.1,
    side: int = 32,
    ignore_index: int = IGNORE,
) -> Tensor:
    """Mean over pairs of images (i, j) and pixels of i of KL between similarities to the pixels of j.

    Similarities are softmax(cosine / τ) over the valid pixels of j; student and teacher (N, c, h, w)
    may differ in width. Images without a valid pixel are no partner. No τ².
    Source: Yang et al., arXiv:2204.06986, its mini-batch pixel-to-pixel loss, τ = 0.1, weight 1. Maps
    with a side above ``side`` are average-pooled (their code: by 2): memory is N² · (h·w)².
    """
    student_NCHW, teacher_NCHW = align(student_NCHW, teacher_NCHW)
    valid_NHW = valid_at(labels_NHW, spatial(student_NCHW), ignore_index=ignore_index)
    factor = -(-max(spatial(student_NCHW)) // side)
    window = (factor, factor)
    cells_NL = _pooled_valid(valid_NHW, window).flatten(1)
    usable_N = cells_NL.any(dim=1)
    if not bool(usable_N.any()):
        return zero(student_NCHW)
    cells_NL = cells_NL[usable_N]
    maps = (_sum_pooled(maps, valid_NHW, window)[usable_N] for maps in (student_NCHW, teacher_NCHW))
    log_student_NNLK, log_teacher_NNLK = (
        _log_similarities(_directions(map_NCHW, cells_NL), cells_NL, temperature)
        for map_NCHW in maps
    )
    partner_N1K = cells_NL[None, :, None]
    difference_NNLK = (log_teacher_NNLK - log_student_NNLK).masked_fill(~partner_N1K, 0)
    divergence_NNL = (log_teacher_NNLK.exp() * difference_NNLK).sum(dim=3)
    own_N1L = cells_NL[:, None]
    per_pair_NN = divergence_NNL.masked_fill(~own_N1L, 0).sum(dim=2) / own_N1L.sum(dim=2)
    return per_pair_NN.mean()


def _pearson(first_RK: Tensor, second_RK: Tensor) -> Tensor:
    """Correlation of each pair of rows, (R,).

    The authors add 1e-8 to the product of the norms, here it is its lower bound: below 1e-8 of a
    difference, and a row with itself is exactly 1.
    """
    first_RK = first_RK - first_RK.mean(dim=1, keepdim=True)
    second_RK = second_RK - second_RK.mean(dim=1, keepdim=True)
    norms_R: Tensor = first_RK.norm(dim=1) * second_RK.norm(dim=1)
    return (first_RK * second_RK).sum(dim=1) / norms_R.clamp(min=1e-8)


def _pooled_valid(valid_NHW: Tensor, window: tuple[int, int]) -> Tensor:
    """Cells that have a valid pixel, (N, h, w) bool."""
    pooled_N1HW: Tensor = F.max_pool2d(valid_NHW[:, None].float(), window, window, ceil_mode=True)
    return pooled_N1HW[:, 0] > 0


def _max_pooled(maps_NCHW: Tensor, valid_NHW: Tensor, window: tuple[int, int]) -> Tensor:
    lowest = torch.finfo(maps_NCHW.dtype).min
    masked_NCHW = maps_NCHW.masked_fill(~valid_NHW[:, None], lowest)
    pooled_NCHW: Tensor = F.max_pool2d(masked_NCHW, window, window, ceil_mode=True)
    return pooled_NCHW


def _sum_pooled(maps_NCHW: Tensor, valid_NHW: Tensor, window: tuple[int, int]) -> Tensor:
    """The mean of a cell's valid pixels up to a factor, which their direction does not see."""
    masked_NCHW = maps_NCHW.masked_fill(~valid_NHW[:, None], 0)
    return F.avg_pool2d(masked_NCHW, window, window, ceil_mode=True)


def _directions(maps_NCHW: Tensor, cells_NL: Tensor) -> Tensor:
    """Unit vectors, (N, C, L); zero vectors where a cell is empty."""
    return F.normalize(maps_NCHW.flatten(2).masked_fill(~cells_NL[:, None], 0), dim=1)


def _log_similarities(directions_NCL: Tensor, cells_NL: Tensor, temperature: float) -> Tensor:
    """log softmax over the places of image j of the cosines with a place of image i, (i, j, L, K)."""
    cosines_NNLK = torch.einsum("icl,jck->ijlk", directions_NCL, directions_NCL)
    lowest = torch.finfo(cosines_NNLK.dtype).min
    masked_NNLK = (cosines_NNLK / temperature).masked_fill(~cells_NL[None, :, None], lowest)
    return masked_NNLK.log_softmax(dim=3)

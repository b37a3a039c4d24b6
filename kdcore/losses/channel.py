"""Losses between the spatial distributions of channels."""

import torch
from torch import Tensor

from kdcore.losses.masking import align, spatial, valid_at, zero
from kdcore.spec.dataset import IGNORE


def cwd(
    student_NCHW: Tensor,
    teacher_NCHW: Tensor,
    labels_NHW: Tensor,
    *,
    temperature: float = 4.0,
    ignore_index: int = IGNORE,
) -> Tensor:
    """τ² / (N·C) · Σ KL between each channel's softmax over the valid pixels of its image.

    Source: Shu et al., arXiv:2011.13256, eq. 5; published: τ = 4, weight 3 on logits, 50 on features.
    Images without a valid pixel count neither in the sum nor in N.
    """
    divergence = _mean_divergence(
        student_NCHW, teacher_NCHW, labels_NHW, temperature, 1, ignore_index
    )
    return temperature**2 * divergence


def cgd(
    student_NCHW: Tensor,
    teacher_NCHW: Tensor,
    labels_NHW: Tensor,
    *,
    temperature: float = 2.0,
    group: int = 10,
    ignore_index: int = IGNORE,
) -> Tensor:
    """1 / (N·G) · Σ KL between the softmax over channels and valid pixels of each of G groups.

    Groups are ``group`` neighbouring channels, the last one what is left. No τ².
    Source: SegDistill (channel group distillation) and its defaults: 10 channels, τ = 2, weight 3.
    cgd(group=1, τ=1) is cwd(τ=1).
    """
    return _mean_divergence(
        student_NCHW, teacher_NCHW, labels_NHW, temperature, group, ignore_index
    )


def _mean_divergence(
    student_NCHW: Tensor,
    teacher_NCHW: Tensor,
    labels_NHW: Tensor,
    temperature: float,
    group: int,
    ignore_index: int,
) -> Tensor:
    """Mean over usable images and groups of channels of the KL of their joint distributions."""
    student_NCHW, teacher_NCHW = align(student_NCHW, teacher_NCHW)
    valid_NHW = valid_at(labels_NHW, spatial(student_NCHW), ignore_index=ignore_index)
    usable_N = valid_NHW.flatten(1).any(dim=1)
    if not bool(usable_N.any()):
        return zero(student_NCHW)
    student_MCHW, teacher_MCHW = student_NCHW[usable_N], teacher_NCHW[usable_N]
    valid_MHW = valid_NHW[usable_N]
    channels = student_MCHW.shape[1]
    whole = channels - channels % group
    parts = [(0, whole, group), (whole, channels, channels - whole)]
    sums = [
        _divergence(
            student_MCHW[:, start:end] / temperature,
            teacher_MCHW[:, start:end] / temperature,
            valid_MHW,
            size,
        )
        for start, end, size in parts
        if end > start
    ]
    return torch.stack(sums).sum() / (student_MCHW.shape[0] * -(-channels // group))


def _divergence(
    student_MCHW: Tensor, teacher_MCHW: Tensor, valid_MHW: Tensor, group: int
) -> Tensor:
    """Sum of KL(teacher, student) over images and groups."""
    log_student_MGS = _log_softmax(student_MCHW, valid_MHW, group)
    log_teacher_MGS = _log_softmax(teacher_MCHW, valid_MHW, group)
    valid_M1S = valid_MHW[:, None].expand(-1, group, -1, -1).flatten(1)[:, None]
    # 0 · (-inf - -inf) at ignored pixels would be NaN, also in the gradient of a product.
    difference_MGS = (log_teacher_MGS - log_student_MGS).masked_fill(~valid_M1S, 0)
    return (log_teacher_MGS.exp() * difference_MGS).sum()


def _log_softmax(values_MCHW: Tensor, valid_MHW: Tensor, group: int) -> Tensor:
    lowest = torch.finfo(values_MCHW.dtype).min
    masked_MCHW = values_MCHW.masked_fill(~valid_MHW[:, None], lowest)
    groups = values_MCHW.shape[1] // group
    return masked_MCHW.reshape(values_MCHW.shape[0], groups, -1).log_softmax(dim=2)

"""Losses between the logits of student and teacher."""

import torch
from torch import Tensor

from kdcore.losses.masking import align, masked_mean, pixels, spatial, valid_at, zero
from kdcore.spec.dataset import IGNORE


def kd(
    student_NCHW: Tensor,
    teacher_NCHW: Tensor,
    labels_NHW: Tensor,
    *,
    temperature: float = 1.0,
    ignore_index: int = IGNORE,
) -> Tensor:
    """τ² · mean over valid pixels of Σ_c p_t log(p_t / p_s), p = softmax(logits / τ) over classes.

    Source: Hinton, Vinyals, Dean, arXiv:1503.02531, eq. 1, with KL for the cross entropy (same
    gradient). Default τ = 1; the sweep on VOC prefers 2. The mean is over pixels: neither
    `batchmean` on NCHW (H·W too large) nor `mean` (C too small).
    """
    student_NCHW, teacher_NCHW = align(student_NCHW, teacher_NCHW)
    valid_NHW = valid_at(labels_NHW, spatial(student_NCHW), ignore_index=ignore_index)
    log_student_PC = (pixels(student_NCHW, valid_NHW) / temperature).log_softmax(dim=1)
    log_teacher_PC = (pixels(teacher_NCHW, valid_NHW) / temperature).log_softmax(dim=1)
    divergence_P = (log_teacher_PC.exp() * (log_teacher_PC - log_student_PC)).sum(dim=1)
    return temperature**2 * masked_mean(divergence_P, like=student_NCHW)


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
    student_NCHW, teacher_NCHW = align(student_NCHW, teacher_NCHW)
    valid_NHW = valid_at(labels_NHW, spatial(student_NCHW), ignore_index=ignore_index)
    usable_N = valid_NHW.flatten(1).any(dim=1)
    if not bool(usable_N.any()):
        return zero(student_NCHW)
    log_student_MCS = _log_softmax_over_space(student_NCHW, valid_NHW, usable_N, temperature)
    log_teacher_MCS = _log_softmax_over_space(teacher_NCHW, valid_NHW, usable_N, temperature)
    valid_MCS = valid_NHW[usable_N].flatten(1)[:, None].expand_as(log_student_MCS)
    # 0 · (-inf - -inf) at ignored pixels would be NaN, also in the gradient of a product.
    difference_MCS = (log_teacher_MCS - log_student_MCS).masked_fill(~valid_MCS, 0)
    channels = log_student_MCS.shape[0] * log_student_MCS.shape[1]
    return temperature**2 * (log_teacher_MCS.exp() * difference_MCS).sum() / channels


def _log_softmax_over_space(
    values_NCHW: Tensor, valid_NHW: Tensor, usable_N: Tensor, temperature: float
) -> Tensor:
    lowest = torch.finfo(values_NCHW.dtype).min
    masked_NCHW = (values_NCHW / temperature).masked_fill(~valid_NHW[:, None], lowest)
    return masked_NCHW[usable_N].flatten(2).log_softmax(dim=2)

"""Losses between features of student and teacher, after the adapter if their widths differ."""

from torch import Tensor

from kdcore.losses.masking import align, pixels, spatial, valid_at, zero
from kdcore.spec.dataset import IGNORE


def pkd(
    student_NCHW: Tensor,
    teacher_NCHW: Tensor,
    labels_NHW: Tensor,
    *,
    eps: float = 1e-6,
    ignore_index: int = IGNORE,
) -> Tensor:
    """MSE / 2 of features standardised per channel over the valid pixels of the batch: 1 - Pearson's r.

    Source: Cao et al., arXiv:2207.02039, eq. 3 and 4, with the unbiased standard deviation and
    eps = 1e-6 of the authors' code.
    """
    student_NCHW, teacher_NCHW = align(student_NCHW, teacher_NCHW)
    valid_NHW = valid_at(labels_NHW, spatial(student_NCHW), ignore_index=ignore_index)
    student_PC, teacher_PC = pixels(student_NCHW, valid_NHW), pixels(teacher_NCHW, valid_NHW)
    if student_PC.shape[0] < 2:
        return zero(student_NCHW)
    difference_PC = _standardised(student_PC, eps) - _standardised(teacher_PC, eps)
    return difference_PC.square().mean() / 2


def _standardised(values_PC: Tensor, eps: float) -> Tensor:
    centred_PC = values_PC - values_PC.mean(dim=0)
    # The square root's gradient at 0 (a constant channel) is infinite: kept away from it.
    deviation_C = values_PC.var(dim=0).clamp(min=1e-24).sqrt()
    return centred_PC / (deviation_C + eps)

"""Losses between features of student and teacher, after the adapter if their widths differ."""

import torch
import torch.nn.functional as F
from torch import Tensor

from kdcore.losses.masking import (
    align,
    masked_mean,
    pixels,
    resize_labels,
    spatial,
    valid_at,
    zero,
)
from kdcore.spec.dataset import IGNORE


def feature_l2(
    student_NCHW: Tensor, teacher_NCHW: Tensor, labels_NHW: Tensor, *, ignore_index: int = IGNORE
) -> Tensor:
    """Mean over valid pixels and channels of (student - teacher)².

    Source: Romero et al. (FitNets), arXiv:1412.6550, eq. 3, with the mean for the half sum;
    published weight 10 (CIRKD's code). Sensitive to scale: prefer `pkd`.
    """
    student_PC, teacher_PC = _valid(student_NCHW, teacher_NCHW, labels_NHW, ignore_index)
    return masked_mean((student_PC - teacher_PC).square(), like=student_NCHW)


def cosine(
    student_NCHW: Tensor, teacher_NCHW: Tensor, labels_NHW: Tensor, *, ignore_index: int = IGNORE
) -> Tensor:
    """Mean over valid pixels of 1 - cos between the channels of student and teacher.

    Source: the student recipe on PASCAL VOC of METHODS 4.4, which sums it over three taps.
    """
    student_PC, teacher_PC = _valid(student_NCHW, teacher_NCHW, labels_NHW, ignore_index)
    return masked_mean(1 - F.cosine_similarity(student_PC, teacher_PC, dim=1), like=student_NCHW)


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
    student_PC, teacher_PC = _valid(student_NCHW, teacher_NCHW, labels_NHW, ignore_index)
    if student_PC.shape[0] < 2:
        return zero(student_NCHW)
    difference_PC = _standardised(student_PC, eps) - _standardised(teacher_PC, eps)
    return difference_PC.square().mean() / 2


def at(
    student_NCHW: Tensor, teacher_NCHW: Tensor, labels_NHW: Tensor, *, ignore_index: int = IGNORE
) -> Tensor:
    """Mean over valid pixels of (a_s - a_t)², a = mean_c f², scaled to norm 1 over an image's pixels.

    Student and teacher (N, c, h, w) may differ in width.
    Source: Zagoruyko, Komodakis, arXiv:1612.03928, eq. 2 with p = 2, and the mean of the squares as
    in the authors' code; about 1 / (h·w), hence the published weight 1e4.
    """
    student_NCHW, teacher_NCHW = align(student_NCHW, teacher_NCHW)
    valid_NHW = valid_at(labels_NHW, spatial(student_NCHW), ignore_index=ignore_index)
    difference_NS = _attention(student_NCHW, valid_NHW) - _attention(teacher_NCHW, valid_NHW)
    return masked_mean(difference_NS[valid_NHW.flatten(1)].square(), like=student_NCHW)


def ifvd(
    student_NCHW: Tensor,
    teacher_NCHW: Tensor,
    labels_NHW: Tensor,
    *,
    mean_over: str = "all",
    ignore_index: int = IGNORE,
) -> Tensor:
    """MSE between student and teacher of each pixel's cosine with the mean feature of its class.

    The mean is that of the class in the pixel's own image; student and teacher may differ in width.
    ``mean_over="all"``: the sum over valid pixels is divided by the number of all pixels. This is
    the published value: there each ignored pixel is its own centre, cosine 1 for both, and adds 0.
    ``"valid"``: divided by the number of valid pixels. Without ignored pixels both are the same.
    Source: Wang et al. (IFVD), ECCV 2020, its L_IFV; published weight 20.
    """
    student_PC, teacher_PC = _valid(student_NCHW, teacher_NCHW, labels_NHW, ignore_index)
    if student_PC.shape[0] == 0:
        return zero(student_NCHW)
    size = min(spatial(student_NCHW), spatial(teacher_NCHW))
    labels_NHW = resize_labels(labels_NHW, size)
    image_P = (labels_NHW != ignore_index).nonzero()[:, 0]
    labels_P = labels_NHW[labels_NHW != ignore_index]
    group_P = image_P * (int(labels_P.max()) + 1) + labels_P
    difference_P = _to_centre(student_PC, group_P) - _to_centre(teacher_PC, group_P)
    count = labels_NHW.numel() if mean_over == "all" else labels_P.numel()
    return difference_P.square().sum() / count


def _valid(
    student_NCHW: Tensor, teacher_NCHW: Tensor, labels_NHW: Tensor, ignore_index: int
) -> tuple[Tensor, Tensor]:
    student_NCHW, teacher_NCHW = align(student_NCHW, teacher_NCHW)
    valid_NHW = valid_at(labels_NHW, spatial(student_NCHW), ignore_index=ignore_index)
    return pixels(student_NCHW, valid_NHW), pixels(teacher_NCHW, valid_NHW)


def _standardised(values_PC: Tensor, eps: float) -> Tensor:
    centred_PC = values_PC - values_PC.mean(dim=0)
    # The square root's gradient at 0 (a constant channel) is infinite: kept away from it.
    deviation_C = values_PC.var(dim=0).clamp(min=1e-24).sqrt()
    return centred_PC / (deviation_C + eps)


def _attention(features_NCHW: Tensor, valid_NHW: Tensor) -> Tensor:
    energy_NHW = features_NCHW.square().mean(dim=1).masked_fill(~valid_NHW, 0)
    return F.normalize(energy_NHW.flatten(1), dim=1)


def _to_centre(features_PC: Tensor, group_P: Tensor) -> Tensor:
    """Cosine of each pixel with the sum of its group, which points where the mean does, (P,)."""
    groups = int(group_P.max()) + 1
    sums_GC = torch.zeros(
        groups, features_PC.shape[1], dtype=features_PC.dtype, device=features_PC.device
    ).index_add(0, group_P, features_PC)
    return F.cosine_similarity(features_PC, sums_GC[group_P], dim=1)

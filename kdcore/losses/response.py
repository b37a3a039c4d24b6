"""Losses between the logits of student and teacher, pixel by pixel."""

import torch
import torch.nn.functional as F
from torch import Tensor

from kdcore.losses.fused import mean_divergence
from kdcore.losses.masking import (
    align,
    masked_mean,
    pixels,
    resize_labels,
    resize_logits,
    size_of,
    spatial,
    valid_at,
)
from kdcore.spec.dataset import IGNORE
from kdcore.spec.logit_terms import Grid


def kd(
    student_NCHW: Tensor,
    teacher_NCHW: Tensor,
    labels_NHW: Tensor,
    *,
    temperature: float = 1.0,
    clamp: float | None = None,
    grid: Grid = "logits",
    ignore_index: int = IGNORE,
) -> Tensor:
    """τ² · mean over valid pixels of Σ_c p_t log(p_t / p_s), p = softmax(logits / τ) over classes.

    Source: Hinton, Vinyals, Dean, arXiv:1503.02531, eq. 1, with KL for the cross entropy (same
    gradient). Default τ = 1; the sweep on VOC prefers 2. The mean is over pixels: neither
    `batchmean` on NCHW (H·W too large) nor `mean` (C too small). ``clamp`` clips both logits to
    ±clamp, as the desert recipe did against that too large loss; what is clipped has no gradient.
    ``grid``: "logits" compares at the smaller grid of the two, where a pixel is valid if its nearest
    label is; "labels" resizes both to the labels first. These are two losses, not two ways to one.
    """
    if grid == "logits":
        student_NCHW, teacher_NCHW = align(student_NCHW, teacher_NCHW)
        labels_NHW = resize_labels(labels_NHW, spatial(student_NCHW))
    if clamp is not None:
        size = size_of(labels_NHW)
        student_NCHW, teacher_NCHW = (
            resize_logits(x, size).clamp(-clamp, clamp) for x in (student_NCHW, teacher_NCHW)
        )
    divergence = mean_divergence(
        student_NCHW, teacher_NCHW, labels_NHW != ignore_index, temperature=temperature
    )
    return temperature**2 * divergence


def logit_std(
    student_NCHW: Tensor,
    teacher_NCHW: Tensor,
    labels_NHW: Tensor,
    *,
    temperature: float = 2.0,
    eps: float = 1e-7,
    ignore_index: int = IGNORE,
) -> Tensor:
    """`kd` of z / τ, z = (logits - mean) / (std + eps) over the classes of each pixel; times τ².

    Source: Sun et al., arXiv:2403.01427, algorithms 1 and 2; unbiased std and eps = 1e-7 as in the
    authors' code, τ = 2 as there. Their `dim=-1` is the width of NCHW; here it is the classes.
    """
    student_PC, teacher_PC = _valid(student_NCHW, teacher_NCHW, labels_NHW, ignore_index)
    divergence_P = _divergence(
        _standardised(student_PC, eps) / temperature, _standardised(teacher_PC, eps) / temperature
    )
    return temperature**2 * masked_mean(divergence_P, like=student_NCHW)


def dkd(
    student_NCHW: Tensor,
    teacher_NCHW: Tensor,
    labels_NHW: Tensor,
    *,
    temperature: float = 4.0,
    alpha: float = 1.0,
    beta: float = 2.0,
    ignore_index: int = IGNORE,
) -> Tensor:
    """τ² · mean over valid pixels of α · TCKD + β · NCKD.

    TCKD is the KL of (p_y, 1 - p_y), NCKD that of the softmax over the classes other than y.
    Source: Zhao et al., arXiv:2203.08679, eq. 7; defaults α = 1, β = 2, τ = 4. The other classes are
    summed as logarithms and y is masked by the lowest number: no -1000, no log of 0 in half types.
    """
    student_PC, teacher_PC = _valid(student_NCHW, teacher_NCHW, labels_NHW, ignore_index)
    true_P1 = _valid_labels(student_NCHW, teacher_NCHW, labels_NHW, ignore_index)[:, None]
    student_P2, student_others_PC = _decoupled(student_PC / temperature, true_P1)
    teacher_P2, teacher_others_PC = _decoupled(teacher_PC / temperature, true_P1)
    tckd_P = (teacher_P2.exp() * (teacher_P2 - student_P2)).sum(dim=1)
    # At y it would be 0 · (-inf - -inf).
    difference_PC = (teacher_others_PC - student_others_PC).scatter(1, true_P1, 0)
    nckd_P = (teacher_others_PC.exp() * difference_PC).sum(dim=1)
    return temperature**2 * masked_mean(alpha * tckd_P + beta * nckd_P, like=student_NCHW)


def ofa(
    student_NCHW: Tensor,
    teacher_NCHW: Tensor,
    labels_NHW: Tensor,
    *,
    temperature: float = 1.0,
    eps: float = 1.0,
    ignore_index: int = IGNORE,
) -> Tensor:
    """Mean over valid pixels of -Σ_c [(p_t + 1_y)^ε - 1_y] · log p_s, p = softmax(logits / τ).

    Source: Hao et al., arXiv:2310.19444, its L_OFA, and the authors' code (ε = 1, τ = 1; they use ε up
    to 1.5). With ε = 1 it is the cross entropy with the teacher; it is not 0 for equal logits.
    """
    student_PC, teacher_PC = _valid(student_NCHW, teacher_NCHW, labels_NHW, ignore_index)
    labels_P = _valid_labels(student_NCHW, teacher_NCHW, labels_NHW, ignore_index)
    truth_PC = F.one_hot(labels_P, student_PC.shape[1]).to(student_PC)
    target_PC = ((teacher_PC / temperature).softmax(dim=1) + truth_PC) ** eps - truth_PC
    loss_P = -(target_PC * (student_PC / temperature).log_softmax(dim=1)).sum(dim=1)
    return masked_mean(loss_P, like=student_NCHW)


def _valid(
    student_NCHW: Tensor, teacher_NCHW: Tensor, labels_NHW: Tensor, ignore_index: int
) -> tuple[Tensor, Tensor]:
    student_NCHW, teacher_NCHW = align(student_NCHW, teacher_NCHW)
    valid_NHW = valid_at(labels_NHW, spatial(student_NCHW), ignore_index=ignore_index)
    return pixels(student_NCHW, valid_NHW), pixels(teacher_NCHW, valid_NHW)


def _valid_labels(
    student_NCHW: Tensor, teacher_NCHW: Tensor, labels_NHW: Tensor, ignore_index: int
) -> Tensor:
    size = min(spatial(student_NCHW), spatial(teacher_NCHW))
    labels_NHW = resize_labels(labels_NHW, size)
    return labels_NHW[labels_NHW != ignore_index]


def _divergence(student_PC: Tensor, teacher_PC: Tensor) -> Tensor:
    log_student_PC, log_teacher_PC = student_PC.log_softmax(dim=1), teacher_PC.log_softmax(dim=1)
    return (log_teacher_PC.exp() * (log_teacher_PC - log_student_PC)).sum(dim=1)


def _standardised(logits_PC: Tensor, eps: float) -> Tensor:
    centred_PC = logits_PC - logits_PC.mean(dim=1, keepdim=True)
    # The square root's gradient at 0 (equal logits) is infinite: kept away from it.
    variance_P1 = centred_PC.square().sum(dim=1, keepdim=True) / (logits_PC.shape[1] - 1)
    deviation_P1 = variance_P1.clamp(min=1e-24).sqrt()
    return centred_PC / (deviation_P1 + eps)


def _decoupled(logits_PC: Tensor, true_P1: Tensor) -> tuple[Tensor, Tensor]:
    """log (p_y, 1 - p_y), (P, 2), and the log softmax over the other classes, (P, C), -inf at y."""
    lowest = torch.finfo(logits_PC.dtype).min
    log_all_PC = logits_PC.log_softmax(dim=1)
    log_rest_P1 = log_all_PC.scatter(1, true_P1, lowest).logsumexp(dim=1, keepdim=True)
    others_PC = logits_PC.scatter(1, true_P1, lowest).log_softmax(dim=1)
    return torch.cat([log_all_PC.gather(1, true_P1), log_rest_P1], dim=1), others_PC

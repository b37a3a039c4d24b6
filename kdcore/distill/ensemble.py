"""Several teachers as one."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from kdcore.losses.masking import resize_labels, resize_logits, spatial
from kdcore.spec.dataset import IGNORE

Shares = Sequence[float] | Sequence[Sequence[float]] | Tensor


def ensemble(
    kind: str,
    logits: Sequence[Tensor],
    labels: Tensor | None = None,
    weights: Shares | None = None,
    ignore_index: int = IGNORE,
    *,
    temperature: float = 1.0,
) -> Tensor:
    """Logits (N, C, h, w) whose softmax at ``temperature`` is the ensemble's distribution.

    ``logits``: (N, C, h, w) of each of K teachers; different strides meet at the smallest grid.
    ``logit_mean``: Σ_k w_k · logits_k. All others mix probabilities at ``temperature``,
    Σ_k w_k · p_k, given back as τ · log p: `kd` against it has exactly the gradient of
    Σ_k w_k · kd_k. Their weights are those of `teacher_weights`; its arguments are the same.
    """
    if len(logits) == 1:
        return logits[0].detach()
    aligned_KNCHW = _aligned(logits)
    weights_K = teacher_weights(
        kind, logits, labels, weights, ignore_index, temperature=temperature
    ).to(aligned_KNCHW)
    if kind == "logit_mean":
        return (weights_K * aligned_KNCHW).sum(0)
    log_probabilities_KNCHW = (aligned_KNCHW / temperature).log_softmax(dim=2)
    mixed_NCHW = (log_probabilities_KNCHW + weights_K.log()).logsumexp(dim=0)
    # Weights per class do not add up to one distribution by themselves.
    return temperature * (mixed_NCHW.log_softmax(dim=1) if kind == "class_iou" else mixed_NCHW)


def teacher_weights(
    kind: str,
    logits: Sequence[Tensor],
    labels: Tensor | None = None,
    weights: Shares | None = None,
    ignore_index: int = IGNORE,
    *,
    temperature: float = 1.0,
) -> Tensor:
    """Weights of K teachers, broadcastable to (K, N, C, h, w), of sum 1 over the teachers.

    ``logit_mean``, ``prob_mean``: ``weights`` (K,) normalised; None: equal.
    ``confidence``: (1 - softmax_k(CE_k)) / (K - 1) per pixel, CE_k the teacher's cross entropy with
    ``labels`` (N, H, W); equal where those are ignored. Source: Zhang et al. (CA-MKD),
    arXiv:2201.00007, its w_KD.
    ``entropy``: (1 - H_k / Σ H) / (K - 1) per pixel, H_k the entropy of the teacher's softmax at
    ``temperature``; equal where all are 0. Source: Kwon et al. (EBKD), ICASSP 2020.
    For these two ``weights`` (K,) are factors before normalising; None: equal.
    ``class_iou``: ``weights`` (K, C), each teacher's IoU of each class on val, normalised over the
    teachers; a class that none of them knows gets equal weights.
    Raises: ValueError, when labels or weights that ``kind`` needs are missing or of another shape.
    """
    count, classes = len(logits), int(logits[0].shape[1])
    if kind == "class_iou":
        if weights is None:
            raise ValueError("class_iou needs weights: the IoU of each class, for each teacher")
        iou_KC = torch.as_tensor(weights, dtype=torch.float64)
        if tuple(iou_KC.shape) != (count, classes):
            raise ValueError(f"weights: {tuple(iou_KC.shape)} instead of ({count}, {classes})")
        return _normalised(iou_KC)[:, None, :, None, None]
    shares_K = torch.as_tensor([1.0] * count if weights is None else weights, dtype=torch.float64)
    if tuple(shares_K.shape) != (count,):
        raise ValueError(f"weights: {tuple(shares_K.shape)} instead of ({count},)")
    if kind in ("logit_mean", "prob_mean"):
        return _normalised(shares_K)[:, None, None, None, None]
    per_pixel_KNHW = _per_pixel(kind, _aligned(logits), labels, ignore_index, temperature)
    factors_K111 = shares_K.to(per_pixel_KNHW)[:, None, None, None]
    return _normalised(factors_K111 * per_pixel_KNHW)[:, :, None]


def _per_pixel(
    kind: str,
    logits_KNCHW: Tensor,
    labels_NHW: Tensor | None,
    ignore_index: int,
    temperature: float,
) -> Tensor:
    """How much each teacher counts at each pixel, (K, N, h, w), before the fixed weights."""
    if kind == "entropy":
        log_p_KNCHW = (logits_KNCHW / temperature).log_softmax(dim=2)
        # p · log p is 0 · (a finite number) where p underflows: no logarithm of 0 is taken.
        entropy_KNHW = -(log_p_KNCHW.exp() * log_p_KNCHW).sum(dim=2)
        part_KNHW = _normalised(entropy_KNHW)
    elif kind == "confidence":
        if labels_NHW is None:
            raise ValueError("confidence needs labels")
        labels_NHW = resize_labels(labels_NHW, spatial(logits_KNCHW))
        losses = [
            F.cross_entropy(one, labels_NHW, ignore_index=ignore_index, reduction="none")
            for one in logits_KNCHW
        ]
        # At ignored pixels all losses are 0, and so all weights are equal.
        part_KNHW = torch.stack(losses).softmax(dim=0)
    else:
        raise ValueError(f"unknown ensemble: {kind}")
    return (1 - part_KNHW) / (logits_KNCHW.shape[0] - 1)


def _normalised(values_K: Tensor) -> Tensor:
    """Of sum 1 over the first dimension; equal where all are 0."""
    total = values_K.sum(dim=0, keepdim=True)
    equal = torch.full_like(values_K, 1 / values_K.shape[0])
    return torch.where(total > 0, values_K / total.clamp(min=1e-30), equal)


def _aligned(logits: Sequence[Tensor]) -> Tensor:
    size = min(spatial(one) for one in logits)
    return torch.stack([resize_logits(one.detach(), size) for one in logits])

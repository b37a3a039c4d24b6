"""Cross entropy with the labels, and its forms that look at some pixels more than at others."""

import torch
import torch.nn.functional as F
from torch import Tensor

from kdcore.losses.fused import mean_cross_entropy
from kdcore.losses.masking import labelled_pixels, zero
from kdcore.spec.dataset import IGNORE


def cross_entropy(
    logits_NCHW: Tensor,
    labels_NHW: Tensor,
    *,
    class_weights_C: Tensor | None = None,
    ignore_index: int = IGNORE,
) -> Tensor:
    """Mean cross entropy over the valid pixels; with class weights the weighted mean, Σ w·l / Σ w.

    Logits of a smaller stride are resized to the labels (bilinear). No valid pixel, or only ones of
    weight 0: exactly 0.
    """
    valid_NHW = labels_NHW != ignore_index
    known_NHW = labels_NHW.masked_fill(~valid_NHW, 0)
    weights_NHW = valid_NHW
    if class_weights_C is not None:
        weights_NHW = valid_NHW * class_weights_C.to(logits_NCHW.device)[known_NHW]
    return mean_cross_entropy(logits_NCHW, known_NHW, weights_NHW)


def ohem(
    logits_NCHW: Tensor,
    labels_NHW: Tensor,
    *,
    threshold: float = 0.7,
    min_kept: float = 0.1,
    class_weights_C: Tensor | None = None,
    ignore_index: int = IGNORE,
) -> Tensor:
    """Mean cross entropy over the hard pixels: those whose true class has p < ``threshold``.

    At least the share ``min_kept`` of the valid pixels, the hardest, is kept. With class weights the
    weighted mean. Source: Shrivastava et al., arXiv:1604.03540, per pixel as in the code bases of
    semantic segmentation: p = 0.7 and there 100,000 pixels, about a tenth of a batch.
    """
    logits_PC, labels_P = labelled_pixels(logits_NCHW, labels_NHW, ignore_index)
    if labels_P.numel() == 0:
        return zero(logits_NCHW)
    loss_P = F.cross_entropy(logits_PC, labels_P, reduction="none")
    with torch.no_grad():
        kept = max(1, -int(-min_kept * labels_P.numel() // 1))
        least = loss_P.kthvalue(labels_P.numel() - kept + 1).values
        hard_P = (loss_P.neg().exp() < threshold) | (loss_P >= least)
    return _mean(loss_P[hard_P], labels_P[hard_P], class_weights_C, logits_NCHW)


def focal(
    logits_NCHW: Tensor,
    labels_NHW: Tensor,
    *,
    gamma: float = 2.0,
    class_weights_C: Tensor | None = None,
    ignore_index: int = IGNORE,
) -> Tensor:
    """Mean over valid pixels of (1 - p_y)^γ · (-log p_y); with class weights the weighted mean.

    Source: Lin et al., arXiv:1708.02002, eq. 5, γ = 2; class weights stand for its α_t.
    """
    logits_PC, labels_P = labelled_pixels(logits_NCHW, labels_NHW, ignore_index)
    entropy_P = F.cross_entropy(logits_PC, labels_P, reduction="none")
    # Below γ = 1 the power's gradient at 0 is infinite: kept away from it.
    missing_P = entropy_P.neg().expm1().neg().clamp(min=1e-12)
    return _mean(missing_P**gamma * entropy_P, labels_P, class_weights_C, logits_NCHW)


def _mean(
    loss_P: Tensor, labels_P: Tensor, class_weights_C: Tensor | None, logits_NCHW: Tensor
) -> Tensor:
    weights_P = (
        torch.ones_like(loss_P) if class_weights_C is None else class_weights_C.to(loss_P)[labels_P]
    )
    if not bool(weights_P.any()):
        return zero(logits_NCHW)
    return (weights_P * loss_P).sum() / weights_P.sum()

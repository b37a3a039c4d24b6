"""Losses over the overlap of each class with its labels."""

import torch
import torch.nn.functional as F
from torch import Tensor

from kdcore.losses.masking import labelled_pixels, zero
from kdcore.spec.dataset import IGNORE


def dice(
    logits_NCHW: Tensor, labels_NHW: Tensor, *, eps: float = 1.0, ignore_index: int = IGNORE
) -> Tensor:
    """1 - mean over the classes present of (2 Σ p·y + eps) / (Σ p + Σ y + eps), over the batch.

    p is the softmax over classes, y the one-hot labels; sums run over the valid pixels.
    Source: Milletari et al., arXiv:1606.04797, with plain instead of squared sums.
    """
    return tversky(
        logits_NCHW, labels_NHW, alpha=0.5, beta=0.5, eps=eps / 2, ignore_index=ignore_index
    )


def tversky(
    logits_NCHW: Tensor,
    labels_NHW: Tensor,
    *,
    alpha: float = 0.3,
    beta: float = 0.7,
    eps: float = 1.0,
    ignore_index: int = IGNORE,
) -> Tensor:
    """1 - mean over the classes present of (TP + eps) / (TP + α·FP + β·FN + eps), over the batch.

    TP = Σ p·y, FP = Σ p·(1 - y), FN = Σ (1 - p)·y over the valid pixels; p is the softmax over
    classes. Source: Salehi et al., arXiv:1706.05721, with its best α = 0.3, β = 0.7.
    α = β = 0.5 is `dice` at twice the eps.
    """
    logits_PC, labels_P = labelled_pixels(logits_NCHW, labels_NHW, ignore_index)
    if labels_P.numel() == 0:
        return zero(logits_NCHW)
    probabilities_PC = logits_PC.softmax(dim=1)
    truth_PC = F.one_hot(labels_P, probabilities_PC.shape[1]).to(probabilities_PC)
    hit_C = (probabilities_PC * truth_PC).sum(dim=0)
    count_C = truth_PC.sum(dim=0)
    errors_C = alpha * (probabilities_PC.sum(dim=0) - hit_C) + beta * (count_C - hit_C)
    return 1 - ((hit_C + eps) / (hit_C + errors_C + eps))[count_C > 0].mean()


def lovasz(logits_NCHW: Tensor, labels_NHW: Tensor, *, ignore_index: int = IGNORE) -> Tensor:
    """Lovász-softmax: mean over the classes present in the batch of the extension of 1 - IoU.

    The errors |y - p| of a class, largest first, weighted by the growth of the Jaccard loss as each
    is added to the mistakes. Source: Berman et al., arXiv:1705.08790, algorithm 1;
    over the valid pixels of the whole batch, classes "present" (both are the authors' defaults).
    """
    logits_PC, labels_P = labelled_pixels(logits_NCHW, labels_NHW, ignore_index)
    if labels_P.numel() == 0:
        return zero(logits_NCHW)
    probabilities_PC = logits_PC.softmax(dim=1)
    truth_PC = F.one_hot(labels_P, probabilities_PC.shape[1]).to(probabilities_PC)
    present_C = truth_PC.sum(dim=0) > 0
    truth_PC = truth_PC[:, present_C]
    errors_PC, order_PC = (truth_PC - probabilities_PC[:, present_C]).abs().sort(0, descending=True)
    return (errors_PC * _jaccard_growth(truth_PC.gather(0, order_PC))).sum(dim=0).mean()


def _jaccard_growth(truth_PC: Tensor) -> Tensor:
    """How much 1 - IoU grows with each further mistake, pixels in the order given."""
    total_C = truth_PC.sum(dim=0)
    intersection_PC = total_C - truth_PC.cumsum(dim=0)
    union_PC = total_C + (1 - truth_PC).cumsum(dim=0)
    jaccard_PC = 1 - intersection_PC / union_PC
    return torch.cat([jaccard_PC[:1], jaccard_PC[1:] - jaccard_PC[:-1]])

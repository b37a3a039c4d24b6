"""Losses against the labels."""

import torch
import torch.nn.functional as F
from torch import Tensor

from kdcore.losses.masking import pixels, resize_logits, wide, zero
from kdcore.spec.dataset import IGNORE


def cross_entropy(
    logits_NCHW: Tensor,
    labels_NHW: Tensor,
    *,
    class_weights_C: Tensor | None = None,
    ignore_index: int = IGNORE,
) -> Tensor:
    """Mean cross entropy over the valid pixels; with class weights the weighted mean, Σ w·l / Σ w.

    Logits of a smaller stride are resized to the labels (bilinear). No valid pixel: exactly 0.
    """
    logits_NCHW = resize_logits(logits_NCHW, _size(labels_NHW))
    valid_P = labels_NHW[labels_NHW != ignore_index]
    weights = None if class_weights_C is None else class_weights_C.to(logits_NCHW)
    if valid_P.numel() == 0 or (weights is not None and not bool(weights[valid_P].any())):
        return zero(logits_NCHW)
    return F.cross_entropy(logits_NCHW, labels_NHW, weight=weights, ignore_index=ignore_index)


def dice(
    logits_NCHW: Tensor, labels_NHW: Tensor, *, eps: float = 1.0, ignore_index: int = IGNORE
) -> Tensor:
    """1 - mean over the classes present of (2 Σ p·y + eps) / (Σ p + Σ y + eps), over the batch.

    p is the softmax over classes, y the one-hot labels; sums run over the valid pixels.
    Source: Milletari et al., arXiv:1606.04797, with plain instead of squared sums.
    """
    logits_NCHW = resize_logits(logits_NCHW, _size(labels_NHW))
    valid_NHW = labels_NHW != ignore_index
    labels_P = labels_NHW[valid_NHW]
    if labels_P.numel() == 0:
        return zero(logits_NCHW)
    probabilities_PC = wide(pixels(logits_NCHW, valid_NHW)).softmax(dim=1)
    truth_PC = F.one_hot(labels_P, probabilities_PC.shape[1]).to(probabilities_PC)
    overlap_C = (probabilities_PC * truth_PC).sum(0)
    total_C = probabilities_PC.sum(0) + truth_PC.sum(0)
    present_C = truth_PC.sum(0) > 0
    return 1 - ((2 * overlap_C + eps) / (total_C + eps))[present_C].mean()


def class_weights(kind: str, class_pixels: tuple[int, ...]) -> Tensor:
    """Weights (C,) from raw pixel counts: 1/f or 1/√f, scaled to mean 1, clipped to [0.1, 10].

    A class without any pixel gets the largest weight of those that have some.
    """
    counts_C = torch.tensor(class_pixels, dtype=torch.float64)
    frequency_C = counts_C / counts_C.sum().clamp(min=1)
    smallest = frequency_C[frequency_C > 0].min() if bool((counts_C > 0).any()) else torch.ones(())
    inverse_C = 1 / torch.where(frequency_C > 0, frequency_C, smallest)
    weights_C = inverse_C.sqrt() if kind == "raw_inverse_sqrt" else inverse_C
    return (weights_C / weights_C.mean()).clamp(0.1, 10).float()


def _size(labels_NHW: Tensor) -> tuple[int, int]:
    return int(labels_NHW.shape[-2]), int(labels_NHW.shape[-1])

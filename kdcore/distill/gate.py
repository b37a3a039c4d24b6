"""Where the teachers are sure enough to teach without a mask."""

from dataclasses import replace

from torch import Tensor

from kdcore.data.batches import Batch
from kdcore.losses.masking import resize_logits, size_of
from kdcore.spec.dataset import IGNORE


def gated(batch: Batch, teacher_NCHW: Tensor, min_confidence: float) -> tuple[Batch, Tensor]:
    """``batch`` with the unsure pixels of its unlabelled images ignored, and the share kept (scalar).

    Sure is who gives one class a probability of at least ``min_confidence``, by the softmax at
    temperature 1 of ``teacher_NCHW`` (N, C, h, w) at the size of the labels. The share is of the
    pixels that show a picture; 0 where there are none. Labelled images stay as they are.
    """
    pool = slice(batch.labelled, None)
    logits_NCHW = resize_logits(teacher_NCHW[pool], size_of(batch.labels_NHW))
    unsure_NHW = logits_NCHW.softmax(dim=1).amax(dim=1) < min_confidence
    labels_NHW = batch.labels_NHW.clone()
    shown = (labels_NHW[pool] != IGNORE).sum()
    labels_NHW[pool] = labels_NHW[pool].masked_fill(unsure_NHW, IGNORE)
    kept = (labels_NHW[pool] != IGNORE).sum() / shown.clamp(min=1)
    return replace(batch, labels_NHW=labels_NHW), kept

"""Segmentation scores from one accumulated confusion matrix.

Counts are added up over a whole split first and divided once, so an image weighs by its pixels.
A class that is neither in the truth nor in the prediction has no score and is left out of means;
a class that is in one of them only scores 0, precision and recall included.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Confusion = NDArray[np.integer[Any]] | NDArray[np.floating[Any]]
"""(C, C) pixel counts: rows are the truth, columns the prediction; ignored pixels are not in it."""

PerClass = tuple[float | None, ...]


@dataclass(frozen=True)
class Scores:
    """All as fractions of 1; per-class tuples are in class order, None for an absent class."""

    miou: float
    pixel_accuracy: float
    iou: PerClass
    dice: PerClass
    precision: PerClass
    recall: PerClass


def score(confusion: Confusion) -> Scores:
    """Scores of a (C, C) confusion matrix.

    Raises: ValueError when it is not square, has negative counts, or holds no pixel at all.
    """
    counts = _checked(confusion)
    hits = np.diagonal(counts)
    truth = counts.sum(axis=1)
    predicted = counts.sum(axis=0)
    present = truth + predicted > 0
    iou = hits / np.maximum(truth + predicted - hits, 1)
    return Scores(
        miou=float(iou[present].mean()),
        pixel_accuracy=float(hits.sum() / counts.sum()),
        iou=_per_class(iou, present),
        dice=_per_class(2 * hits / np.maximum(truth + predicted, 1), present),
        precision=_per_class(hits / np.maximum(predicted, 1), present),
        recall=_per_class(hits / np.maximum(truth, 1), present),
    )


def mean_iou(confusion: Confusion) -> float:
    """Mean IoU over the classes that are in the truth or in the prediction; errors as `score`."""
    return score(confusion).miou


def _checked(confusion: Confusion) -> NDArray[np.float64]:
    """As float64, exact up to 2**53 pixels."""
    counts = np.asarray(confusion, dtype=np.float64)
    if counts.ndim != 2 or counts.shape[0] != counts.shape[1]:
        raise ValueError(f"a confusion matrix is square, this has shape {counts.shape}")
    if (counts < 0).any():
        raise ValueError("a confusion matrix has no negative counts")
    if not counts.any():
        raise ValueError("no pixel to score: the confusion matrix is all zero")
    return counts


def _per_class(values: NDArray[np.float64], present: NDArray[np.bool_]) -> PerClass:
    return tuple(
        float(value) if there else None for value, there in zip(values, present, strict=True)
    )

"""Is the distilled student better than the same student trained without its teachers?"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from kdcore.report.scores import PerClass
from kdcore.spec.base import Spec
from kdcore.spec.job import Role

Answer = Literal["better", "no_better", "worse", "not_enough_evidence"]

MARGIN = 0.01
"""An effect whose interval stays within ± this many mIoU (a fraction of 1) is no effect."""


class Latency(Spec):
    """Milliseconds for one batch, and everything without which the number means nothing."""

    p50: float = Field(ge=0)
    p99: float = Field(ge=0)
    threads: int
    size: tuple[int, int] = Field(description="Height, width in pixels")
    device: str
    runtime: str
    precision: str
    batch: int
    runs: int


@dataclass(frozen=True)
class Measured:
    """What was measured of one contestant.

    ``confusions_ICC``: one (C, C) confusion matrix per image, rows truth, columns prediction, the
    images in the same order for every contestant. ``latency`` has the fields of `Latency`.
    """

    role: Role
    name: str
    seed: int | None
    confusions_ICC: NDArray[np.integer[Any]]  # noqa: N815 (shape suffix)
    parameters: int
    size_bytes: int
    flops: int | None = None
    latency: Latency | Mapping[str, Any] | None = None


class ContestantScores(Spec):
    """One model's row: fractions of 1, None for classes that are absent."""

    name: str
    role: Role
    seed: int | None
    miou: float
    iou: PerClass
    dice: PerClass
    precision: PerClass
    recall: PerClass
    pixel_accuracy: float
    parameters: int
    flops: int | None
    size_bytes: int
    latency_ms: Latency | None


class RoleSummary(Spec):
    """Mean and sample standard deviation (None for one model) over the models of a role."""

    miou_mean: float
    miou_std: float | None
    seeds: int = Field(description="How many models")


class ClassDelta(Spec):
    """Distilled minus baseline, IoU of one class; None where the images cannot tell."""

    name: str = Field(validation_alias="class", serialization_alias="class")
    delta: float | None
    low: float | None
    high: float | None


class Delta(Spec):
    """Distilled minus baseline, mean over the seeds, with its confidence interval."""

    miou: float
    low: float
    high: float
    confidence: float
    replicates: int
    per_class: tuple[ClassDelta, ...]


class Verdict(Spec):
    """`report/verdict.json`. ``verdict`` is None where there is no pair to compare."""

    sentence: str
    verdict: Answer | None
    split: str
    images: int
    classes: tuple[str, ...]
    contestants: tuple[ContestantScores, ...]
    summary: dict[Role, RoleSummary]
    delta: Delta | None
    gap_recovered: float | None
    notes: tuple[str, ...]


def judge(
    measured: Sequence[Measured],
    *,
    classes: Sequence[str],
    split: str,
    rng: np.random.Generator,
    unlabelled_used: bool = False,
    margin: float = MARGIN,
    confidence: float = 0.95,
    replicates: int = 2000,
) -> Verdict:
    """The verdict over all contestants.

    Raises: ValueError when contestants do not share images and classes, or a seed stands twice.
    """
    raise NotImplementedError

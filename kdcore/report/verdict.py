"""Is the distilled student better than the same student trained without its teachers?

The rules, on the confidence interval of Δ mIoU = distilled minus baseline (`bootstrap`):

- ``better``: the interval lies wholly above 0; ``worse``: wholly below 0.
- ``no_better``: it contains 0 and stays within ± margin (0.01 mIoU, that is 1 point).
- ``not_enough_evidence``: it contains 0 and is wider than that.
- None: there is no pair of a baseline and a distilled student of equal seed.

Gap recovered is (S_kd - S) / (T - S): baseline S, distilled S_kd, and T the best teacher; None
unless T - S > 0.005, since a fraction of nearly nothing says nothing.

Where the student was also distilled without the pool of images without masks, Δ of the pool is
distilled minus that one, over the same seeds: a part of the gain, with an interval of its own.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from kdcore.report.bootstrap import Interval, PairedDelta, paired_delta
from kdcore.report.scores import PerClass, score
from kdcore.report.wording import Answer, Entry, Facts, notes, sentence
from kdcore.spec.base import Spec
from kdcore.spec.job import Role

MARGIN = 0.01
"""An effect whose interval stays within ± this many mIoU (a fraction of 1) is no effect."""

LEAST_GAP = 0.005
"""A teacher must lead the baseline by more than this mIoU for a recovered gap to mean anything."""


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

    ``confusions``: one (C, C) confusion matrix per image, rows truth, columns prediction, the
    images in the same order for every contestant. ``latency`` has the fields of `Latency`.
    ``known``: ids of the classes that the model knows, None for all; only pixels of these are
    scored, so that the others have no IoU.
    """

    role: Role
    name: str
    seed: int | None
    confusions: NDArray[np.integer[Any]]
    parameters: int
    size_bytes: int
    flops: int | None = None
    latency: Latency | Mapping[str, Any] | None = None
    known: tuple[int, ...] | None = None

    @property
    def scored(self) -> NDArray[np.integer[Any]]:
        """``confusions`` with the rows of unknown classes emptied."""
        if self.known is None:
            return self.confusions
        scored = np.zeros_like(self.confusions)
        scored[:, list(self.known)] = self.confusions[:, list(self.known)]
        return scored


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
    """Difference in IoU of one class; None where the images cannot tell."""

    name: str = Field(validation_alias="class", serialization_alias="class")
    delta: float | None
    low: float | None
    high: float | None


class Delta(Spec):
    """Distilled minus another student, mean over the seeds, with its confidence interval."""

    miou: float
    low: float | None = Field(description="None with a single image")
    high: float | None
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
    delta: Delta | None = Field(description="Distilled minus baseline")
    pool_delta: Delta | None = Field(
        default=None,
        exclude_if=lambda delta: delta is None,
        description="Distilled minus distilled without the pool; left out where that was not asked",
    )
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
    """The verdict over all contestants, by the rules above.

    ``unlabelled_used``: the distilled students saw images that the baseline could not use.
    Raises: ValueError when contestants were not measured on the same images and classes, when a
    role has a seed twice, or when there is no pixel to score.
    """
    _check(measured, classes)
    rows = tuple(_scored(one) for one in measured)
    seeds = _shared_seeds(measured, *_PAIR)
    pool_seeds = _shared_seeds(measured, *_POOL_PAIR, *(_PAIR if seeds else ()))
    delta, pool = (
        _delta(measured, pair, shared, rng=rng, confidence=confidence, replicates=replicates)
        for pair, shared in ((_PAIR, seeds), (_POOL_PAIR, pool_seeds))
    )
    baseline = _mean_of(rows, "baseline", seeds) if delta else None
    unknown = {one.name: _unknown(one, classes) for one in measured}
    whole = [row for row in rows if not unknown[row.name]]
    gap = _gap_recovered(whole, delta, baseline) if delta and baseline is not None else None
    truth = measured[0].confusions.sum(axis=2)
    facts = Facts(
        entries=tuple(
            Entry(r.role, r.name, r.seed, r.miou, r.parameters, unknown[r.name]) for r in rows
        ),
        classes=tuple(classes),
        class_images=tuple(int(images) for images in (truth > 0).sum(axis=0)),
        split=split,
        images=len(truth),
        pairs=len(seeds),
        answer=_answer(delta.miou, margin) if delta else None,
        delta=delta,
        baseline_miou=baseline,
        gap_recovered=gap,
        margin=margin,
        confidence=confidence,
        unlabelled_used=unlabelled_used,
        pool=pool,
        pool_pairs=len(pool_seeds),
    )
    return Verdict(
        sentence=sentence(facts),
        verdict=facts.answer,
        split=split,
        images=facts.images,
        classes=facts.classes,
        contestants=rows,
        summary=_summary(rows),
        delta=_shown(delta, facts.classes, confidence, replicates) if delta else None,
        pool_delta=_shown(pool, facts.classes, confidence, replicates) if pool else None,
        gap_recovered=gap,
        notes=notes(facts),
    )


def _check(measured: Sequence[Measured], classes: Sequence[str]) -> None:
    if not measured:
        raise ValueError("nothing was measured")
    first = measured[0]
    truth = first.confusions.sum(axis=2)
    for one in measured:
        if one.confusions.shape != (len(truth), len(classes), len(classes)):
            raise ValueError(
                f"{one.name}: confusions of shape {one.confusions.shape}, expected "
                f"{(len(truth), len(classes), len(classes))} (images, classes, classes)"
            )
        if not np.array_equal(one.confusions.sum(axis=2), truth):
            raise ValueError(f"{one.name} and {first.name} were not measured on the same masks")
    students = {*_PAIR, *_POOL_PAIR}
    counted = Counter((one.role, one.seed) for one in measured if one.role in students)
    if twice := [key for key, times in counted.items() if times > 1]:
        raise ValueError(f"more than one {twice[0][0]} with seed {twice[0][1]}")


_Pair = tuple[Role, Role]
_PAIR: _Pair = ("baseline", "distilled")
_POOL_PAIR: _Pair = ("distilled_without_pool", "distilled")


def _scored(one: Measured) -> ContestantScores:
    scores = score(one.scored.sum(axis=0))
    return ContestantScores(
        name=one.name,
        role=one.role,
        seed=one.seed,
        miou=scores.miou,
        iou=scores.iou,
        dice=scores.dice,
        precision=scores.precision,
        recall=scores.recall,
        pixel_accuracy=scores.pixel_accuracy,
        parameters=one.parameters,
        flops=one.flops,
        size_bytes=one.size_bytes,
        latency_ms=None if one.latency is None else Latency.model_validate(one.latency),
    )


def _unknown(one: Measured, classes: Sequence[str]) -> tuple[str, ...]:
    known = range(len(classes)) if one.known is None else one.known
    return tuple(name for index, name in enumerate(classes) if index not in known)


def _shared_seeds(measured: Sequence[Measured], first: Role, *others: Role) -> list[int | None]:
    """Seeds of which there is one of each role, in the order of the first.

    Contestants without a seed pair with each other.
    """
    known = [{one.seed for one in measured if one.role == role} for role in others]
    return [
        one.seed
        for one in measured
        if one.role == first and all(one.seed in seeds for seeds in known)
    ]


def _delta(
    measured: Sequence[Measured],
    pair: _Pair,
    seeds: Sequence[int | None],
    *,
    rng: np.random.Generator,
    confidence: float,
    replicates: int,
) -> PairedDelta | None:
    if not seeds:
        return None
    confusions = {(one.role, one.seed): one.confusions for one in measured}
    before, after = (np.stack([confusions[role, seed] for seed in seeds]) for role in pair)
    return paired_delta(before, after, rng=rng, confidence=confidence, replicates=replicates)


def _mean_of(rows: Sequence[ContestantScores], role: Role, seeds: Sequence[int | None]) -> float:
    return fmean(row.miou for row in rows if row.role == role and row.seed in seeds)


def _answer(interval: Interval, margin: float) -> Answer:
    if interval.low is None or interval.high is None:
        return "not_enough_evidence"
    if interval.low > 0:
        return "better"
    if interval.high < 0:
        return "worse"
    narrow = max(-interval.low, interval.high) <= margin
    return "no_better" if narrow else "not_enough_evidence"


def _gap_recovered(
    rows: Sequence[ContestantScores], delta: PairedDelta, baseline: float
) -> float | None:
    teachers = [row.miou for row in rows if row.role == "teacher"]
    gap = max(teachers, default=0.0) - baseline
    return delta.miou.estimate / gap if gap > LEAST_GAP else None


def _summary(rows: Sequence[ContestantScores]) -> dict[Role, RoleSummary]:
    """Per role; not over different models that are side by side only to be looked at."""
    by_role: dict[Role, list[ContestantScores]] = {}
    for row in rows:
        by_role.setdefault(row.role, []).append(row)
    return {
        role: RoleSummary(
            miou_mean=fmean(row.miou for row in group),
            miou_std=stdev(row.miou for row in group) if len(group) > 1 else None,
            seeds=len(group),
        )
        for role, group in by_role.items()
        if role != "model" or len(group) == 1 or all(row.seed is not None for row in group)
    }


def _shown(delta: PairedDelta, classes: Sequence[str], confidence: float, replicates: int) -> Delta:
    return Delta(
        miou=delta.miou.estimate,
        low=delta.miou.low,
        high=delta.miou.high,
        confidence=confidence,
        replicates=replicates,
        per_class=tuple(
            ClassDelta(
                name=name,
                delta=interval.estimate if interval else None,
                low=interval.low if interval else None,
                high=interval.high if interval else None,
            )
            for name, interval in zip(classes, delta.per_class, strict=True)
        ),
    )

"""What the numbers mean, in plain sentences: the verdict's sentence and the notes below it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from kdcore.report.bootstrap import Interval, PairedDelta
from kdcore.spec.job import Role

Answer = Literal["better", "no_better", "worse", "not_enough_evidence"]

SEEDS_WANTED = 3
"""Below this many pairs the notes ask for more."""

_MINUS = "\N{MINUS SIGN}"


@dataclass(frozen=True)
class Entry:
    """A contestant as the sentences need it."""

    role: Role
    name: str
    seed: int | None
    miou: float
    parameters: int
    unknown: tuple[str, ...] = ()
    """Classes that the model does not know: its mIoU is over the others."""


@dataclass(frozen=True)
class Facts:
    """Everything that the sentences speak of; mIoU and IoU as fractions of 1."""

    entries: tuple[Entry, ...]
    classes: tuple[str, ...]
    class_images: tuple[int, ...]
    """In how many images the truth has the class."""
    split: str
    images: int
    pairs: int
    answer: Answer | None
    delta: PairedDelta | None
    baseline_miou: float | None
    gap_recovered: float | None
    margin: float
    confidence: float
    unlabelled_used: bool
    pool: PairedDelta | None
    """Distilled minus distilled without the pool."""
    pool_pairs: int

    def of(self, role: Role) -> tuple[Entry, ...]:
        return tuple(entry for entry in self.entries if entry.role == role)

    @property
    def teachers(self) -> str:
        return "teachers" if len(self.of("teacher")) > 1 else "teacher"


def sentence(facts: Facts) -> str:
    """One sentence that stands alone."""
    if facts.delta is None or facts.answer is None:
        return _without_pairs(facts)
    delta, basis = facts.delta.miou, f"({_interval(facts, facts.delta.miou)}; {_basis(facts)})"
    student = f"the same student trained without the {facts.teachers}"
    if facts.answer == "better":
        text = f"Better: the distilled student gains {points(delta.estimate)} mIoU points over"
        return f"{text} {student} {basis}{_gap(facts)}{_pool_part(facts)}."
    if facts.answer == "worse":
        text = f"Worse: the distilled student loses {points(-delta.estimate)} mIoU points against"
        return f"{text} {student} {basis}{_pool_part(facts)}."
    change = points(delta.estimate, signed=True)
    if facts.answer == "no_better":
        text = f"No better: distillation changes the student by {change} mIoU points against"
        text = f"{text} {student} {basis}, within {points(facts.margin)} points of no effect"
        return f"{text}{_pool_part(facts)}."
    text = f"Not enough evidence: the distilled student stands at {change} mIoU points against"
    return f"{text} {student}, and that may be chance {basis}{_pool_part(facts)}."


def notes(facts: Facts) -> tuple[str, ...]:
    """What a reader must know before believing the sentence; most important first."""
    found = (*_notes_on_pool(facts), *_notes_on_pairs(facts))
    return (*found, *_notes_on_teachers(facts), *_notes_on_classes(facts))


def points(fraction: float, *, signed: bool = False) -> str:
    """``0.0214`` as ``2.1``; signed as ``+2.1``, with a real minus sign. Never ``-0.0``."""
    value = round(100 * fraction, 1) + 0.0
    text = f"{value:+.1f}" if signed and value != 0 else f"{value:.1f}"
    return text.replace("-", _MINUS)


def percent(fraction: float) -> str:
    return f"{points(fraction)} %"


def count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _interval(facts: Facts, interval: Interval) -> str:
    if interval.low is None or interval.high is None:
        return "no interval from a single image"
    low, high = points(interval.low, signed=True), points(interval.high, signed=True)
    return f"{100 * facts.confidence:g} % interval {low} to {high}"


def _basis(facts: Facts) -> str:
    return f"{count(facts.pairs, 'seed')}, {count(facts.images, f'{facts.split} image')}"


def _pool_part(facts: Facts) -> str:
    if facts.pool is None:
        return ""
    part, seeds = facts.pool.miou, count(facts.pool_pairs, "seed")
    basis = _interval(facts, part) + (f"; {seeds}" if facts.pool_pairs != facts.pairs else "")
    what = "of the difference" if facts.delta is not None else "of the distilled student's mIoU"
    change = points(part.estimate, signed=True)
    return f"; the images without masks account for {change} points {what} ({basis})"


def _gap(facts: Facts) -> str:
    gap = facts.gap_recovered
    best = "best teacher" if len(facts.of("teacher")) > 1 else "teacher"
    if gap is None or gap <= 0:
        return ""
    if gap > 1:
        return f" and passes the {best}"
    return f" and recovers {100 * gap:.0f} % of the gap to the {best}"


def _without_pairs(facts: Facts) -> str:
    models = facts.of("model")
    measured_on = f"on {count(facts.images, f'{facts.split} image')}"
    if not models:
        parts = " and ".join(
            f"the {_NAMES.get(role, role)} reaches {_mean(facts.of(role))}"
            for role in _NAMED_ROLES
            if facts.of(role)
        )
        text = f"No verdict: no pair of equal seed to compare; {parts} {measured_on}"
        return f"{text}{_pool_part(facts)}."
    if len(models) == 1:
        return f"{models[0].name} reaches {percent(models[0].miou)} mIoU {measured_on}."
    if all(model.seed is not None for model in models):
        return f"The model reaches {_mean(models)} {measured_on}."
    best = max(models, key=lambda model: model.miou)
    return (
        f"{best.name} has the highest mIoU of {len(models)} models, "
        f"{percent(best.miou)} {measured_on}."
    )


_NAMED_ROLES: tuple[Role, ...] = ("distilled", "distilled_without_pool", "baseline", "teacher")
_NAMES: dict[Role, str] = {"distilled_without_pool": "student distilled without the pool"}


def _mean(entries: Sequence[Entry]) -> str:
    mean = percent(sum(entry.miou for entry in entries) / len(entries)) + " mIoU"
    if len(entries) == 1:
        return mean
    lowest, highest = min(e.miou for e in entries), max(e.miou for e in entries)
    return f"{mean} (mean of {len(entries)}, from {points(lowest)} to {points(highest)})"


def _notes_on_pool(facts: Facts) -> Iterator[str]:
    if facts.unlabelled_used and facts.delta is not None:
        learned = (
            "The distilled student also learned from images without masks, which the baseline "
            "could not use"
        )
        if facts.pool is None:
            yield (
                f"{learned}: the difference is that of distillation and of those images together."
            )
        elif facts.pool_pairs == facts.pairs:
            rest = facts.delta.miou.estimate - facts.pool.miou.estimate
            yield (
                f"{learned}. Distilled without them, the same student stands at "
                f"{points(rest, signed=True)} mIoU points against the baseline."
            )
    if facts.pool is not None:
        yield (
            "Without the pool all images of a batch have masks, so that student saw each labelled "
            "image more often: the pool's part is what its images gave in place of those."
        )


def _notes_on_pairs(facts: Facts) -> Iterator[str]:
    if facts.delta is None:
        return
    if facts.images == 1:
        yield "A single image cannot show how much the result depends on the choice of images."
    if facts.pairs == 1:
        yield (
            "Only one seed: the interval covers the choice of images, not the spread between "
            f"training runs. Train with at least {SEEDS_WANTED} seeds to be sure."
        )
    elif facts.pairs < SEEDS_WANTED:
        yield (
            f"{facts.pairs} seeds say little about the spread between training runs: the interval "
            "is widened for it and may still be too narrow. Train with at least "
            f"{SEEDS_WANTED} to be sure."
        )
    if facts.answer == "not_enough_evidence" and facts.delta.seed_share is not None:
        seeds = facts.delta.seed_share > 0.5
        yield (
            "Most of the uncertainty comes from "
            + (
                "the spread between seeds: more seeds would help most."
                if seeds
                else "the choice of images: more images would help most."
            )
        )
    lone = len(facts.of("baseline")) + len(facts.of("distilled")) - 2 * facts.pairs
    lone += len(facts.of("distilled_without_pool")) - facts.pool_pairs
    if lone:
        yield (
            f"{count(lone, 'run')} without a partner of equal seed "
            f"{'is' if lone == 1 else 'are'} not in the comparison."
        )
    if len({entry.parameters for entry in (*facts.of("baseline"), *facts.of("distilled"))}) > 1:
        yield "Baseline and distilled student do not have the same number of parameters."


def _notes_on_teachers(facts: Facts) -> Iterator[str]:
    for teacher in facts.of("teacher"):
        if teacher.unknown:
            yield (
                f"The teacher {teacher.name} does not know {_listed(teacher.unknown)}: its mIoU is "
                "over the other classes, and no gap is measured against it."
            )
    teachers = [teacher for teacher in facts.of("teacher") if not teacher.unknown]
    if not teachers or facts.baseline_miou is None:
        return
    best = max(teachers, key=lambda teacher: teacher.miou)
    if facts.gap_recovered is None:
        yield (
            f"The teacher {best.name} ({percent(best.miou)} mIoU) is not clearly better than the "
            f"student trained without it ({percent(facts.baseline_miou)}): it had little to teach."
        )
    elif len(teachers) > 1:
        yield f"The gap is measured against the best of {len(teachers)} teachers, {best.name}."


def _notes_on_classes(facts: Facts) -> Iterator[str]:
    named = list(zip(facts.classes, facts.class_images, strict=True))
    if absent := [name for name, images in named if images == 0]:
        yield f"No {facts.split} image has {_listed(absent)}."
    if facts.delta is None:
        return
    if rare := [name for name, images in named if images == 1 and facts.images > 1]:
        yield f"Only one {facts.split} image has {_listed(rare)}: no interval for that."
    per_class = zip(facts.classes, facts.delta.per_class, strict=True)
    falls = [
        f"{name} ({points(interval.estimate, signed=True)})"
        for name, interval in per_class
        if interval is not None and interval.high is not None and interval.high < 0
    ]
    if falls and facts.answer != "worse":
        yield f"IoU falls for {_listed(falls)}, whatever the mean does."


def _listed(names: Sequence[str]) -> str:
    shown, rest = names[:8], len(names) - 8
    if rest > 0:
        return f"{', '.join(shown)} and {rest} more"
    return " and ".join([", ".join(shown[:-1]), shown[-1]] if len(shown) > 1 else shown)

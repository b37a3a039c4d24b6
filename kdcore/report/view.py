"""A verdict as the page shows it: texts, and positions of bars and whiskers in percent."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil, floor
from statistics import fmean, median_low
from typing import Literal

from kdcore.report.scores import PerClass
from kdcore.report.verdict import ContestantScores, Delta, Latency, Verdict
from kdcore.report.wording import percent, points
from kdcore.spec.job import Role

_Entry = tuple[str, float | None, float | None, float | None]
"""Label, estimate, low, high."""

Tone = Literal["better", "worse", "open"]

MODELS_MAX = 4
"""So many models of an evaluation get bars of their own, the best ones; tables list them all."""

NOTHING = "\N{EN DASH}"
_NBSP = "\N{NO-BREAK SPACE}"


@dataclass(frozen=True)
class Series:
    """One bar a class: a role, or one model of an evaluation. ``style`` picks its colour."""

    label: str
    style: str
    miou: float
    miou_text: str
    iou: PerClass


@dataclass(frozen=True)
class Effect:
    """Δ of one class or of the mean, with whiskers; positions in percent, None when unknown."""

    label: str
    text: str
    interval: str
    tone: Tone
    at: float | None
    low: float | None
    high: float | None
    is_mean: bool = False


@dataclass(frozen=True)
class Axis:
    """Tick labels in points and their positions in percent; ``zero`` is the no-effect line."""

    ticks: tuple[tuple[float, str], ...]
    zero: float


@dataclass(frozen=True)
class Cost:
    """A row of the efficiency table."""

    label: str
    parameters: str
    flops: str
    size: str
    latency: str
    conditions: str


@dataclass(frozen=True)
class Tile:
    """A key figure; ``bar`` is a length in percent."""

    title: str
    value: str
    unit: str
    detail: str
    tone: Tone | None = None
    bar: float | None = None


def series(verdict: Verdict) -> tuple[Series, ...]:
    """Best teacher and the students, each as the mean over its seeds; else the models."""
    rows = verdict.contestants
    teachers = [row for row in rows if row.role == "teacher"]
    shown: list[Series] = []
    if teachers:
        best = max(teachers, key=lambda row: row.miou)
        label = f"Best teacher ({best.name})" if len(teachers) > 1 else "Teacher"
        shown.append(_series(label, "teacher", [best]))
    for role, label in _STUDENTS.items():
        if group := [row for row in rows if row.role == role]:
            shown.append(_series(label, role.replace("_", "-"), group))
    models = [row for row in rows if row.role == "model"]
    if models and "model" in verdict.summary:
        label = "Model" if len(models) > 1 else models[0].name
        shown.append(_series(label, "model-0", models))
    elif models:
        best_first = sorted(models, key=lambda row: row.miou, reverse=True)[:MODELS_MAX]
        shown += [_series(row.name, f"model-{i}", [row]) for i, row in enumerate(best_first)]
    return tuple(shown)


def effects(verdict: Verdict) -> tuple[Axis, tuple[Effect, ...]] | None:
    """What distillation changed: the mean, then every class, on a common axis that holds zero."""
    return None if verdict.delta is None else _effects(verdict.delta)


def pool_effects(verdict: Verdict) -> tuple[Axis, tuple[Effect, ...]] | None:
    """The part of it that is the pool's, in the same form."""
    return None if verdict.pool_delta is None else _effects(verdict.pool_delta)


def costs(verdict: Verdict) -> tuple[Cost, ...]:
    """One row per teacher and model, one for all seeds of a student; latency of the median run."""
    rows: list[Cost] = []
    groups: dict[tuple[Role, str], list[ContestantScores]] = {}
    for row in verdict.contestants:
        own = row.role == "teacher" or (row.role == "model" and "model" not in verdict.summary)
        groups.setdefault((row.role, row.name if own else ""), []).append(row)
    for (role, name), group in groups.items():
        label = _STUDENTS.get(role, "Model")
        if role == "teacher":
            label = f"Teacher {name}"
        latency = _typical(group)
        rows.append(
            Cost(
                label=label if role != "model" or not name else name,
                parameters=_scaled(group[0].parameters).strip(),
                flops=NOTHING if group[0].flops is None else _scaled(group[0].flops).strip(),
                size=f"{_scaled(group[0].size_bytes)}B",
                latency=NOTHING if latency is None else _milliseconds(latency.p50),
                conditions="" if latency is None else _conditions(latency),
            )
        )
    return tuple(rows)


def tiles(verdict: Verdict) -> tuple[Tile, ...]:
    """The figures that answer "how much, how close to the teacher, how small, how fast"."""
    found: list[Tile] = []
    by_style = {one.style: one for one in series(verdict)}
    student, teacher = by_style.get("distilled"), by_style.get("teacher")
    if verdict.delta is not None:
        found.append(_gain("Gain in mIoU", verdict.delta))
    if verdict.pool_delta is not None:
        found.append(_gain("The pool's part", verdict.pool_delta))
    if student is not None and (before := by_style.get("baseline")) is not None:
        found.append(
            Tile(
                "Distilled student",
                student.miou_text,
                "mIoU",
                f"baseline {before.miou_text}",
            )
        )
    else:
        found += [
            Tile(one.label, one.miou_text, "mIoU", f"on the {verdict.split} split")
            for one in by_style.values()
        ]
    if verdict.gap_recovered is not None and teacher is not None:
        gap = verdict.gap_recovered
        found.append(
            Tile(
                "Gap recovered",
                f"{points(round(gap, 2)).removesuffix('.0')} %",
                "",
                f"of the way to the teacher, {teacher.miou_text}",
                bar=100 * min(1.0, max(0.0, gap)),
            )
        )
    return (*found, *_lighter(verdict))


def hundredfold(value: float | None) -> str:
    """``0.8123`` as ``81.2``."""
    return NOTHING if value is None else f"{100 * value:.1f}"


def mean_score(values: PerClass) -> float | None:
    """Over the classes that have a score; None where none has."""
    known = [value for value in values if value is not None]
    return fmean(known) if known else None


def role_name(row: ContestantScores) -> str:
    return _ROLES.get(row.role, "Model")


_ROLES: dict[Role, str] = {
    "teacher": "Teacher",
    "baseline": "Baseline",
    "distilled_without_pool": "Distilled, no pool",
    "distilled": "Distilled",
}
_STUDENTS: dict[Role, str] = {
    "baseline": "Baseline student",
    "distilled_without_pool": "Distilled, no pool",
    "distilled": "Distilled student",
}


def _effects(delta: Delta) -> tuple[Axis, tuple[Effect, ...]]:
    entries: list[_Entry] = [("mIoU", delta.miou, delta.low, delta.high)]
    entries += [(entry.name, entry.delta, entry.low, entry.high) for entry in delta.per_class]
    known = [100 * value for entry in entries for value in entry[1:] if value is not None]
    axis, place = _axis(min(known), max(known))
    return axis, tuple(
        _effect(entry, place, is_mean=index == 0) for index, entry in enumerate(entries)
    )


def _series(label: str, style: str, group: Sequence[ContestantScores]) -> Series:
    per_class = tuple(
        mean_score(values) for values in zip(*(row.iou for row in group), strict=True)
    )
    miou = fmean(row.miou for row in group)
    return Series(label, style, miou, percent(miou), per_class)


def _effect(
    entry: _Entry,
    place: Callable[[float], float],
    *,
    is_mean: bool,
) -> Effect:
    label, value, low, high = entry
    return Effect(
        label=label,
        text=NOTHING if value is None else points(value, signed=True),
        interval=_range(low, high),
        tone=_tone(low, high),
        at=None if value is None else place(100 * value),
        low=None if low is None else place(100 * low),
        high=None if high is None else place(100 * high),
        is_mean=is_mean,
    )


def _gain(title: str, delta: Delta) -> Tile:
    detail = f"{100 * delta.confidence:g} % interval {_range(delta.low, delta.high)}"
    tone = _tone(delta.low, delta.high)
    return Tile(title, points(delta.miou, signed=True), "points", detail, tone)


def _tone(low: float | None, high: float | None) -> Tone:
    if low is not None and low > 0:
        return "better"
    if high is not None and high < 0:
        return "worse"
    return "open"


def _range(low: float | None, high: float | None) -> str:
    if low is None or high is None:
        return NOTHING
    return f"{points(low, signed=True)} to {points(high, signed=True)}"


def _axis(lowest: float, highest: float) -> tuple[Axis, Callable[[float], float]]:
    """Round steps, at most seven ticks, at least one step either side of zero."""
    lowest, highest = min(lowest, 0.0), max(highest, 0.0)
    steps = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50)
    step = next((s for s in steps if (highest - lowest) / s <= 5), 50)
    first, last = min(-1, floor(lowest / step)), max(1, ceil(highest / step))

    def place(value: float) -> float:
        return round(100 * (value / step - first) / (last - first), 2)

    marks = [tick * step for tick in range(first, last + 1)]
    ticks = tuple((place(mark), points(mark / 100, signed=True)) for mark in marks)
    shorter = all(label.endswith(".0") for _, label in ticks)
    if shorter:
        ticks = tuple((at, label.removesuffix(".0")) for at, label in ticks)
    return Axis(ticks, place(0)), place


def _typical(group: Sequence[ContestantScores]) -> Latency | None:
    """The measurement whose p50 is the (low) median of the group."""
    measured = [row.latency_ms for row in group if row.latency_ms is not None]
    if not measured:
        return None
    middle = median_low(latency.p50 for latency in measured)
    return next(latency for latency in measured if latency.p50 == middle)


def _lighter(verdict: Verdict) -> list[Tile]:
    """How much smaller and faster the distilled student is than the best teacher."""
    students = [row for row in verdict.contestants if row.role == "distilled"]
    teachers = [row for row in verdict.contestants if row.role == "teacher"]
    if not students or not teachers:
        return []
    best = max(teachers, key=lambda row: row.miou)
    pair = f"{_scaled(students[0].parameters)} of {_scaled(best.parameters)} parameters"
    size = _ratio(best.parameters, students[0].parameters, ("smaller", "larger"))
    found = [Tile("Size", *size, pair)]
    slow, fast = best.latency_ms, _typical(students)
    if slow is not None and fast is not None and _conditions(slow) == _conditions(fast):
        pair = f"{_milliseconds(fast.p50)} against {_milliseconds(slow.p50)}"
        found.append(Tile("Speed", *_ratio(slow.p50, fast.p50, ("faster", "slower")), pair))
    return found


def _ratio(teacher: float, student: float, words: tuple[str, str]) -> tuple[str, str]:
    if teacher <= 0 or student <= 0:
        return NOTHING, ""
    high, low, word = max(teacher, student), min(teacher, student), words[teacher < student]
    return f"{high / low:.1f}\N{MULTIPLICATION SIGN}", word


def _scaled(number: float) -> str:
    """``6_569_581`` as ``6.57 M``: three significant digits and a decimal prefix."""
    for limit, prefix in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= 0.9995 * limit:
            return f"{_three(number / limit)}{_NBSP}{prefix}"
    return f"{number:.0f}{_NBSP}"


def _milliseconds(value: float) -> str:
    return f"{_three(value)}{_NBSP}ms"


def _three(value: float) -> str:
    """Three significant digits without an exponent."""
    return (
        f"{value:.0f}" if value >= 99.95 else f"{value:.1f}" if value >= 9.995 else f"{value:.2f}"
    )


def _conditions(latency: Latency) -> str:
    threads = f"{latency.threads} thread" + ("s" if latency.threads != 1 else "")
    height, width = latency.size
    return (
        f"{latency.device}, {threads}, {latency.runtime}, {latency.precision}, "
        f"batch {latency.batch}, {height}\N{MULTIPLICATION SIGN}{width} px, {latency.runs} runs"
    )

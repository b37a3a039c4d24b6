"""Which workloads are measured with which arms, the most telling first."""

import argparse
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import get_args

from benchmarks.speed.measure import Form
from benchmarks.speed.workload import (
    ARMS,
    PAIRS,
    ArmName,
    Models,
    Pair,
    Precision,
    Source,
    Workload,
)

_BATCHES_GPU, _CLASSES_GPU = [8, 32, 64], [19, 150]
_MINUTES_GPU = 8.5


@dataclass(frozen=True)
class Planned:
    """``checked``: the gate comes before it, and the losses are measured alone."""

    workload: Workload
    arms: tuple[ArmName, ...]
    checked: bool = False


def planned(given: argparse.Namespace) -> list[Planned]:
    return list(_of_all(given) if given.all else _of_product(given))


def _of_product(given: argparse.Namespace) -> Iterator[Planned]:
    arms = tuple(name for name in ARMS if name in given.arm)
    seen: set[Pair] = set()
    for pair, classes, batch, source in product(
        given.pair, given.classes, given.batch, given.source
    ):
        # What is checked does not depend on where images come from, or on how many there are.
        yield Planned(_workload(given, pair, batch, classes, source), arms, pair not in seen)
        seen.add(pair)


def _of_all(given: argparse.Namespace) -> Iterator[Planned]:
    (batch, *batches), (classes, *more_classes) = given.batch, given.classes
    for pair in PAIRS[:2]:
        yield Planned(_workload(given, pair, batch, classes), ARMS, checked=True)
    yield Planned(_workload(given, "sf", batch, classes, "disk"), ("A2", "B"))
    for larger, pair in product(batches, PAIRS[:2]):
        yield Planned(_workload(given, pair, larger, classes), ("A2", "TD", "B"))
    yield Planned(_workload(given, "ens", batch, classes), ("A", "A2", "B"), checked=True)
    for other, pair in product(more_classes, PAIRS[:2]):
        yield Planned(_workload(given, pair, batch, other), ("A2", "B"))


def _workload(
    given: argparse.Namespace, pair: Pair, batch: int, classes: int, source: Source = "memory"
) -> Workload:
    return Workload(
        pair, size=given.size, batch=batch, classes=classes, source=source,
        models=given.models, precision=given.precision,
    )  # fmt: skip


def form(given: argparse.Namespace) -> Form:
    return Form(given.warm_up, given.steps, given.settle, given.cycles)


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.kd")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--pair", nargs="+", choices=PAIRS, default=["sf", "cnn"])
    parser.add_argument("--arm", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument("--size", type=int, default=512, help="crop, pixels")
    parser.add_argument("--batch", type=int, nargs="+", help="CPU: 2; GPU: 8")
    parser.add_argument("--classes", type=int, nargs="+")
    parser.add_argument("--source", nargs="+", choices=get_args(Source), default=["memory"])
    parser.add_argument("--models", choices=get_args(Models), default="published")
    parser.add_argument(
        "--precision", choices=get_args(Precision), default="auto",
        help="of ours; fp32: the exact rewrites alone",
    )  # fmt: skip
    parser.add_argument("--warm-up", type=int, help="steps of each arm first; CPU: 3, GPU: 20")
    parser.add_argument("--steps", type=int, help="timed steps of a block; CPU: 2, GPU: 17")
    parser.add_argument("--settle", type=int, default=1, help="untimed steps before each block")
    parser.add_argument(
        "--cycles", type=int, default=3, help="times that all arms go forth and back"
    )
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--all", action="store_true", help="all goals, until --minutes are over")
    parser.add_argument("--minutes", type=float, help="with --all on a GPU: 8.5")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    given = parser.parse_args(arguments)
    if given.settle < 1:
        parser.error("--settle: at least 1; the first step of a block begins before its first mark")
    _fill_in(given)
    return given


def _fill_in(given: argparse.Namespace) -> None:
    on_gpu = given.device == "cuda"
    whole = on_gpu and given.all
    given.batch = given.batch or (_BATCHES_GPU if whole else [8] if on_gpu else [2])
    given.classes = given.classes or (_CLASSES_GPU if whole else [19])
    given.warm_up = given.warm_up or (20 if on_gpu else 3)
    given.steps = given.steps or (17 if on_gpu else 2)
    if given.minutes is None:
        given.minutes = _MINUTES_GPU if whole else float("inf")

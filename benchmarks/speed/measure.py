"""Arms in turn on one workload: A B … B A, several times, so that a busy machine is busy for all."""

import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from statistics import median, quantiles

import torch

from benchmarks.speed.process import ArmProcess, Prepared
from benchmarks.speed.scene import Scene
from benchmarks.speed.workload import ArmName, Workload


@dataclass(frozen=True)
class Form:
    """``warm_up`` steps of each arm first; then blocks of ``steps`` after ``settle`` uncounted ones,
    one forth and one back in each of ``cycles``.
    """

    warm_up: int
    steps: int
    settle: int = 1
    cycles: int = 3


@dataclass(frozen=True)
class Spread:
    """Median and quartiles."""

    median: float
    low: float
    high: float


@dataclass
class Measured:
    """``blocks``: seconds of each step, of each block in the order of time."""

    prepared: Prepared
    blocks: list[list[float]] = field(default_factory=list)

    def step_seconds(self) -> Spread:
        return spread([seconds for block in self.blocks for seconds in block])


@dataclass
class Case:
    """What the arms did on one workload, or why one of them did nothing."""

    workload: Workload
    arms: dict[ArmName, Measured] = field(default_factory=dict)
    failed: dict[ArmName, str] = field(default_factory=dict)

    def images_per_second(self, arm: ArmName) -> float:
        return self.workload.batch / self.arms[arm].step_seconds().median

    def ratio(self, ours: ArmName, peer: ArmName) -> Spread:
        """How many times as fast ``ours`` is, over the pairs of blocks of one pass."""
        pairs = zip(self.arms[ours].blocks, self.arms[peer].blocks, strict=True)
        return spread([median(theirs) / median(own) for own, theirs in pairs])


def spread(values: Sequence[float]) -> Spread:
    if len(values) == 1:
        return Spread(values[0], values[0], values[0])
    low, middle, high = quantiles(values, n=4, method="inclusive")
    return Spread(middle, low, high)


def measure(
    scene: Scene,
    arms: Sequence[ArmName],
    form: Form,
    *,
    device: torch.device,
    threads: int,
    deadline: float = float("inf"),
) -> Case:
    """``deadline``: of `time.monotonic`; no cycle but the first begins after it."""
    case = Case(scene.workload)
    with ExitStack() as stack:
        # All load side by side; what is reported as warm-up is done one by one.
        processes = [stack.enter_context(ArmProcess(name, scene, device, threads)) for name in arms]
        ready = [process for process in processes if _warmed_up(process, case, form)]
        for cycle in range(form.cycles):
            if cycle and time.monotonic() > deadline:
                break
            for process in (*ready, *reversed(ready)):
                seconds = process.block(form.settle, form.steps)
                case.arms[process.name].blocks.append(seconds)
    return case


def _warmed_up(process: ArmProcess, case: Case, form: Form) -> bool:
    # An arm that cannot do it (no memory, a missing package) must not cost the others' figures.
    try:
        case.arms[process.name] = Measured(process.warm_up(form.warm_up))
    except Exception as error:  # noqa: BLE001
        case.failed[process.name] = f"{type(error).__name__}: {error}"[:300]
        return False
    return True

"""Each arm in a process of its own: its memory is its own, and none meets what another has set."""

import time
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context, set_start_method
from typing import ParamSpec, Self, TypeVar

import torch

from benchmarks.speed.arms import Arm, build_arm
from benchmarks.speed.device import Meter, PeakMemory, meter
from benchmarks.speed.scene import Scene
from benchmarks.speed.workload import ArmName
from kdcore.run.memory import keep_freed_memory

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True)
class Prepared:
    """What the timing leaves out, in seconds; ``first_step`` has compilation in it, where there is any.

    ``peak_bytes`` is of models and warm-up.
    """

    load: float
    first_step: float
    warm_up: float
    peak_bytes: int
    settings: dict[str, str]


class ArmProcess:
    """An arm that waits, without using a core, until it is asked."""

    def __init__(self, name: ArmName, scene: Scene, device: torch.device, threads: int) -> None:
        self.name = name
        self._pool = _one_process()
        self._loaded = self._pool.submit(_load, name, scene, device, threads)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._pool.submit(_close)
        self._pool.shutdown()

    def warm_up(self, steps: int) -> Prepared:
        """Raises: whatever the arm raises."""
        self._loaded.result()
        return self._pool.submit(_warm_up, steps).result()

    def block(self, settle: int, steps: int) -> list[float]:
        """Seconds of each of ``steps`` steps, after ``settle`` that do not count."""
        return self._pool.submit(_block, settle, steps).result()


def in_process(function: Callable[P, R], *arguments: P.args, **named: P.kwargs) -> R:
    """``function`` in a process that ends with it."""
    with _one_process() as pool:
        answer: Future[R] = pool.submit(function, *arguments, **named)
        return answer.result()


def _one_process() -> ProcessPoolExecutor:
    # The server imports once what all need, and has no threads and no GPU when it forks.
    context = get_context("forkserver")
    context.set_forkserver_preload(
        [__name__, "benchmarks.speed.arms.plain", "benchmarks.speed.arms.ours"]
    )
    return ProcessPoolExecutor(1, mp_context=context)


@dataclass
class _Here:
    """What this process holds."""

    arm: Arm
    meter: Meter
    memory: PeakMemory
    load_seconds: float


_here: _Here | None = None


def _load(name: ArmName, scene: Scene, device: torch.device, threads: int) -> None:
    global _here  # noqa: PLW0603
    torch.set_num_threads(threads)
    # Workers of loaders start as they do in any program, not as this process was started.
    set_start_method(None, force=True)
    if name in ("B", "Bcache"):
        keep_freed_memory()  # as `kd run` does
    started = time.perf_counter()
    arm = build_arm(name, scene, device)
    memory = PeakMemory(device)
    arm.load_models()
    _here = _Here(arm, meter(device), memory, time.perf_counter() - started)


def _close() -> None:
    if _here is not None:
        _here.arm.close()


def _warm_up(steps: int) -> Prepared:
    assert _here is not None, "loaded before"
    first = _seconds_of(1)
    others = _seconds_of(steps - 1)
    peak = _here.memory.bytes()
    return Prepared(_here.load_seconds, first, first + others, peak, _here.arm.settings)


def _seconds_of(steps: int) -> float:
    assert _here is not None, "loaded before"
    if steps == 0:
        return 0.0
    started = time.perf_counter()
    _here.arm.train(steps, _here.meter.mark)
    _here.meter.seconds()  # waits for the device
    return time.perf_counter() - started


def _block(settle: int, steps: int) -> list[float]:
    assert _here is not None, "loaded before"
    _here.arm.train(settle + steps, _here.meter.mark)
    return _here.meter.seconds()[-steps:]

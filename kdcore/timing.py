"""The parts of a training step, named where they happen and timed while somebody asks."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, get_args

import torch
from torch.profiler import record_function

Part = Literal["data", "teacher", "student", "loss", "backward", "optimizer", "logging"]
PARTS: tuple[Part, ...] = get_args(Part)


class Stopwatch:
    """Seconds by part. Each waits for the device, so that what it queued is counted where it belongs."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.seconds: dict[Part, float] = dict.fromkeys(PARTS, 0.0)

    def now(self) -> float:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return time.perf_counter()


_running: Stopwatch | None = None
_traced = False


def watch(stopwatch: Stopwatch | None, *, traced: bool = False) -> None:
    """From now on parts are timed by ``stopwatch``, or not; ``traced``: named in a profiler's trace."""
    global _running, _traced
    _running, _traced = stopwatch, traced


@contextmanager
def part(name: Part) -> Iterator[None]:
    """What runs inside is ``name``; parts do not lie in one another."""
    if _traced:
        with record_function(name):
            yield
    elif _running is not None:
        watching = _running
        began = watching.now()
        yield
        watching.seconds[name] += watching.now() - began
    else:
        yield

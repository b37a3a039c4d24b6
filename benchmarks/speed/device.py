"""All that differs between a CPU and a GPU when something is measured: clock, memory, TF32."""

import contextlib
import itertools
import resource
import time
from pathlib import Path
from typing import Protocol

import torch

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


class Meter(Protocol):
    """Marks points in the work of a device."""

    def mark(self) -> None: ...

    def seconds(self) -> list[float]:
        """Between neighbouring marks; they are forgotten afterwards."""
        ...


class HostMeter:
    def __init__(self) -> None:
        self._marks: list[float] = []

    def mark(self) -> None:
        self._marks.append(time.perf_counter())

    def seconds(self) -> list[float]:
        marks, self._marks = self._marks, []
        return [later - earlier for earlier, later in itertools.pairwise(marks)]


class CudaMeter:
    """Events on the current stream: no mark makes the host wait."""

    def __init__(self) -> None:
        self._marks: list[torch.cuda.Event] = []

    def mark(self) -> None:
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record()
        self._marks.append(event)

    def seconds(self) -> list[float]:
        torch.cuda.synchronize()
        marks, self._marks = self._marks, []
        return [earlier.elapsed_time(later) / 1000 for earlier, later in itertools.pairwise(marks)]


def meter(device: torch.device) -> Meter:
    return CudaMeter() if device.type == "cuda" else HostMeter()


class PeakMemory:
    """Bytes at most since this object was made: allocated on a GPU, else growth of the process."""

    def __init__(self, device: torch.device) -> None:
        self._cuda = device.type == "cuda"
        if self._cuda:
            torch.cuda.reset_peak_memory_stats()
            return
        # Resets the high-water mark; where that is not allowed, it may lie too high, never too low.
        with contextlib.suppress(OSError):
            _CLEAR.write_text("5")
        self._before = _resident("VmRSS")

    def bytes(self) -> int:
        if self._cuda:
            return torch.cuda.max_memory_allocated()
        return max(0, _resident("VmHWM") - self._before)


def _resident(field: str) -> int:
    """`VmRSS` is what the process holds now, `VmHWM` the most so far; bytes."""
    try:
        lines = _STATUS.read_text().splitlines()
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # no Linux: the most so far
    line = next(line for line in lines if line.startswith(field))
    return 1024 * int(line.split()[1])


def allow_tf32(device: torch.device, *, allowed: bool) -> None:
    """Of matrix products and convolutions on a GPU; nothing on a CPU."""
    if device.type == "cuda":
        torch.backends.cuda.matmul.allow_tf32 = allowed
        torch.backends.cudnn.allow_tf32 = allowed


def device_name(device: torch.device) -> str | None:
    """Of the GPU; None on a CPU."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else None

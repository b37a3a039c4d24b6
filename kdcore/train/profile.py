"""Where the time of a step goes: a table by part, and a trace of every operator."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

from kdcore.files import write_text
from kdcore.timing import Part, Stopwatch, watch

TABLE, TRACE = "parts.txt", "trace.json.gz"
WARM_UP, TIMED, TRACED = 5, 10, 3


class Profile:
    """After `WARM_UP` steps of a process times `TIMED` ones, then traces `TRACED`.

    Timed parts wait for the device one after the other, and a profiler slows every operator: neither
    is the speed of a training. Leaves ``folder``/parts.txt and ``folder``/trace.json.gz (for
    chrome://tracing or https://ui.perfetto.dev); a training that is too short leaves less.
    """

    def __init__(self, folder: Path, device: torch.device) -> None:
        self._folder = folder
        self._stopwatch = Stopwatch(device)
        activities = [ProfilerActivity.CPU]
        if device.type == "cuda":
            activities.append(ProfilerActivity.CUDA)
        self._profiler = profile(activities=activities)
        self._steps = 0

    def stepped(self) -> None:
        """After every step."""
        self._steps += 1
        if self._steps == WARM_UP:
            watch(self._stopwatch)
        elif self._steps == WARM_UP + TIMED:
            self._folder.mkdir(exist_ok=True)
            write_text(self._folder / TABLE, table(self._stopwatch.seconds, TIMED))
            watch(None, traced=True)
            self._profiler.start()
        elif self._steps == WARM_UP + TIMED + TRACED:
            self._profiler.stop()
            watch(None)
            self._profiler.export_chrome_trace(str(self._folder / TRACE))

    def close(self) -> None:
        """The training is over, wherever it was."""
        watch(None)
        if WARM_UP + TIMED <= self._steps < WARM_UP + TIMED + TRACED:
            self._profiler.stop()


def table(seconds: Mapping[Part, float], steps: int) -> str:
    """Milliseconds a step and share of the whole by part."""
    whole = sum(seconds.values())
    rows = [*seconds.items(), ("step", whole)]
    lines = [f"{'part':<10} {'ms/step':>9} {'share':>6}"]
    lines += [
        f"{name:<10} {1e3 * each / steps:>9.2f} {each / whole if whole else 0:>6.1%}"
        for name, each in rows
    ]
    return "\n".join(lines) + "\n"

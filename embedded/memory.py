"""Peak memory of a process and everything below it."""

import threading
from typing import Self

import psutil

SAMPLE_SECONDS = 1.0


class PeakMemory:
    """Samples the sum of resident memory over process trees; pages shared by two count twice."""

    def __init__(self, *roots: int) -> None:
        self._roots = roots
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._sample, name="peak-memory", daemon=True)
        self.peak = 0
        """bytes"""

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._end.set()
        self._thread.join()

    def _sample(self) -> None:
        while True:
            self.peak = max(self.peak, resident(self._roots))
            if self._end.wait(SAMPLE_SECONDS):
                return


def resident(roots: tuple[int, ...]) -> int:
    """Bytes now."""
    seen: dict[int, int] = {}
    for root in roots:
        try:
            top = psutil.Process(root)
            processes = [top, *top.children(recursive=True)]
        except psutil.NoSuchProcess:
            continue
        for process in processes:
            try:
                seen[process.pid] = process.memory_info().rss
            except psutil.NoSuchProcess:
                continue  # it ended between the listing and the reading
    return sum(seen.values())

"""What is told of a worker to the outside, whatever started its supervisor."""

from collections.abc import Callable

from worker.observing import tracing
from worker.observing.metrics import BUSY, SLOTS, serve
from worker.settings import WorkerSettings


def observe(settings: WorkerSettings, *, slots: int, busy: Callable[[], int]) -> None:
    """Slots and, where they are set up, the page of metrics and traces. Once for a process.

    ``slots``: how many there are; ``busy``: those that hold an attempt.
    """
    SLOTS.set(slots)
    BUSY.set_function(busy)
    tracing.configure("stillhouse-worker")
    if settings.metrics_port is not None:
        serve(settings.metrics_host, settings.metrics_port)

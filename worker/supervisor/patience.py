"""Waiting for a storage that is away, without losing sight of everything else."""

from collections.abc import Callable
from queue import Empty, SimpleQueue
from threading import Event, Thread
from typing import TypeVar

import structlog

from worker.artifacts import ArtifactStore, StorageUnavailable
from worker.supervisor.clock import boottime

log = structlog.get_logger()
T = TypeVar("T")
LOOK_SECONDS = 0.1
PAUSE_SECONDS = 1.0
PAUSE_SECONDS_MAX = 10.0
LOCAL_SECONDS = 3.0


def patience_with(store: ArtifactStore, seconds: float) -> float:
    """How long to wait for ``store``: a disk that fails does not come back as a service does."""
    return min(seconds, LOCAL_SECONDS) if store.local else seconds


def patiently(action: Callable[[], T], *, check: Callable[[], None], seconds: float) -> T:
    """``action``, again and again for ``seconds`` as long as the storage is unavailable.

    ``check`` is called often, however long ``action`` takes, and raises to stop. Raises what they
    raise; at the end of ``seconds`` the last `StorageUnavailable`.
    """
    deadline = boottime() + seconds
    pause = PAUSE_SECONDS
    while True:
        try:
            return aside(action, check=check)
        except StorageUnavailable as error:
            if boottime() >= deadline:
                raise
            log.warning("store.waits", reason=error.message, remedy=error.remedy)
        _wait(pause, check)
        pause = min(2 * pause, PAUSE_SECONDS_MAX)


def aside(action: Callable[[], T], *, check: Callable[[], None]) -> T:
    """``action`` in a thread of its own, looking up meanwhile; an end of ours does not wait for it."""
    box: SimpleQueue[T | _Raised] = SimpleQueue()

    def run() -> None:
        try:
            box.put(action())
        except BaseException as error:  # noqa: BLE001 (it is raised again where it belongs)
            box.put(_Raised(error))

    Thread(target=run, name="storage", daemon=True).start()
    while True:
        try:
            result = box.get(timeout=LOOK_SECONDS)
        except Empty:
            check()
            continue
        if isinstance(result, _Raised):
            raise result.error
        return result


class _Raised:
    def __init__(self, error: BaseException) -> None:
        self.error = error


def _wait(seconds: float, check: Callable[[], None]) -> None:
    end = boottime() + seconds
    never = Event()
    while boottime() < end:
        check()
        never.wait(LOOK_SECONDS)

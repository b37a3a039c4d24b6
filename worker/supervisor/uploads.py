"""Bringing things to the store while a trainer runs: nobody waits for the storage."""

from collections.abc import Callable
from threading import Condition, Thread

import structlog

from worker.artifacts import ArtifactError, StorageUnavailable

log = structlog.get_logger()
PAUSE_SECONDS = 1.0
PAUSE_SECONDS_MAX = 30.0
LOOK_SECONDS = 0.1


class Uploads:
    """One thread. Things have names, and of a name only the newest waits.

    What the storage cannot take now is tried again until it can, or something newer has come.
    ``on_done`` is called in the thread, after each that was brought or given up.
    """

    def __init__(self, *, on_done: Callable[[], None]) -> None:
        self._on_done = on_done
        self._changed = Condition()
        self._waiting: dict[str, Callable[[], None]] = {}
        self._busy = False
        self._closed = False
        self._thread: Thread | None = None

    def offer(self, name: str, action: Callable[[], None]) -> None:
        """``action`` puts files and notes where they are; it raises what the store raises."""
        with self._changed:
            self._waiting[name] = action
            if self._thread is None:
                # A daemon: an upload that hangs in the network must not hold up the process.
                self._thread = Thread(target=self._run, name="uploads", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def settle(self, go_on: Callable[[], bool]) -> bool:
        """Wait until nothing is left, or ``go_on``, which is asked often, says no. Whether it is."""
        while True:
            with self._changed:
                if not self._waiting and not self._busy:
                    return True
                self._changed.wait(LOOK_SECONDS)
            if not go_on():
                return False

    def close(self) -> None:
        """Nothing more is begun. What is on its way may still arrive, and does no harm."""
        with self._changed:
            self._closed = True
            self._waiting.clear()
            self._changed.notify_all()

    def _run(self) -> None:
        pause = PAUSE_SECONDS
        while (taken := self._take()) is not None:
            name, action = taken
            try:
                action()
                pause = PAUSE_SECONDS
            except StorageUnavailable as error:
                self._put_back(name, action)
                log.warning("store.waits", what=name, reason=error.message, remedy=error.remedy)
                self._rest(pause)
                pause = min(2 * pause, PAUSE_SECONDS_MAX)
            except ArtifactError as error:
                log.warning("upload.given_up", what=name, reason=error.message, remedy=error.remedy)
            except Exception:
                # The other things must still be brought.
                log.exception("upload.given_up", what=name)
            self._release()

    def _take(self) -> tuple[str, Callable[[], None]] | None:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed)
            if self._closed:
                return None
            self._busy = True
            name = next(iter(self._waiting))
            return name, self._waiting.pop(name)

    def _put_back(self, name: str, action: Callable[[], None]) -> None:
        with self._changed:
            if not self._closed:
                self._waiting.setdefault(name, action)

    def _rest(self, seconds: float) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._closed, seconds)

    def _release(self) -> None:
        with self._changed:
            self._busy = False
            self._changed.notify_all()
        self._on_done()

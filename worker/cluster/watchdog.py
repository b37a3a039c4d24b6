"""Looks after the Celery side of a worker, from a thread that no socket can block."""

import os
import sys
from threading import Event, Thread
from time import monotonic

import structlog
from celery.worker import state

from worker.cluster.probe import Probe
from worker.process import WorkerProcess

log = structlog.get_logger()
LOOK_SECONDS = 0.5
EXIT_FAILURE = 1


class Watchdog:
    """Three cares:

    * Celery was asked to stop: the supervisor begins at once. A main thread that hangs in a socket
      would come to it too late for a checkpoint.
    * The supervisor ended by itself: then so does Celery, with status 1.
    * The consumer is deaf: the process starts anew in its place, as soon as no attempt runs. A busy
      worker needs no messages, and one with a free slot goes on finding jobs by polling.
    """

    def __init__(self, process: WorkerProcess, probe: Probe, probe_seconds: float) -> None:
        self._process = process
        self._probe = probe
        self._probe_seconds = probe_seconds
        self._stopped = Event()
        self._thread = Thread(target=self._run, name="watchdog", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()

    def _run(self) -> None:
        next_probe = monotonic() + self._probe_seconds
        deaf = False
        while not self._stopped.wait(LOOK_SECONDS):
            if _asked_to_stop():
                self._process.supervisor.stop()
                return
            if not self._process.is_alive():
                log.error("supervisor.ended")
                state.should_stop = EXIT_FAILURE
                return
            if monotonic() >= next_probe:
                next_probe = monotonic() + self._probe_seconds
                deaf = self._is_deaf(deaf)
            if deaf and not self._process.supervisor.busy():
                self._restart()

    def _is_deaf(self, before: bool) -> bool:
        deaf = self._probe.is_deaf()
        if deaf != before:
            log.warning("consumer.deaf" if deaf else "consumer.hears")
        return deaf

    def _restart(self) -> None:
        """The same command again, under the same process id."""
        log.warning("worker.restarts", reason="no message arrives, though the broker takes them")
        self._process.stop()
        if not _asked_to_stop():
            os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606


def _asked_to_stop() -> bool:
    """As `state.maybe_shutdown` decides; a status of 0 is a wish too."""
    return any(
        flag is not None and flag is not False
        for flag in (state.should_stop, state.should_terminate)
    )

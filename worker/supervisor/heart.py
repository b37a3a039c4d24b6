"""Heartbeats of one attempt, in their own thread: storing a large file must not lose the lease."""

from collections.abc import Callable
from threading import Event, Thread
from uuid import UUID

import structlog
from structlog.contextvars import bound_contextvars

from worker.ledger.errors import LedgerUnavailable
from worker.ledger.jobs import Directive, heartbeat
from worker.supervisor.lease import LeaseLost
from worker.supervisor.writer import Writer

log = structlog.get_logger()
RETRY_SECONDS = 1.0


class Heart:
    """Beats until it is stopped, the lease is lost, or ``alive`` says that the attempt hangs.

    ``on_beat`` is called after each confirmed beat with what the ledger wants, ``on_lost`` at the
    end of the lease.
    """

    def __init__(
        self,
        writer: Writer,
        *,
        job_id: UUID,
        attempt: int,
        interval_seconds: float,
        lease_seconds: float,
        alive: Callable[[], bool],
        on_beat: Callable[[Directive], None],
        on_lost: Callable[[], None],
    ) -> None:
        self._writer = writer
        self._job_id = job_id
        self._attempt = attempt
        self._interval_seconds = interval_seconds
        self._lease_seconds = lease_seconds
        self._alive = alive
        self._on_beat = on_beat
        self._on_lost = on_lost
        self._stopped = Event()
        self._thread = Thread(target=self._run, name=f"heart-{job_id}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        with bound_contextvars(job=str(self._job_id), attempt=self._attempt):
            self._beat()

    def _beat(self) -> None:
        pause = self._interval_seconds
        while not self._stopped.wait(pause) and self._alive():
            try:
                directive = self._writer.write(
                    lambda session: heartbeat(
                        session,
                        job_id=self._job_id,
                        attempt=self._attempt,
                        lease_seconds=self._lease_seconds,
                    ),
                    renews=True,
                )
            except LedgerUnavailable as error:
                log.warning("heartbeat.failed", job=str(self._job_id), reason=error.message)
                pause = min(RETRY_SECONDS, self._interval_seconds)
                continue
            except LeaseLost:
                self._on_lost()
                return
            pause = self._interval_seconds
            self._on_beat(directive)

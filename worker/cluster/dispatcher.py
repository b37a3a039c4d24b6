"""Tells workers of queued jobs, from within beat's process: the API knows no broker."""

import atexit
from collections.abc import Callable, Sequence
from threading import Event, Thread
from time import monotonic
from typing import Any
from uuid import UUID

import structlog
from pydantic import ValidationError

from worker.cluster.configuration import BROKER_AWAY, TICKS, WAKE
from worker.ledger import hints
from worker.ledger.errors import LedgerUnavailable
from worker.ledger.session import Ledger
from worker.settings import BeatSettings

log = structlog.get_logger()
LISTEN_SECONDS = 0.25
GATHER_SECONDS = 0.1
"""Between two rounds at least: a flood of notes is answered by few of them."""
ROUND_SECONDS = 5.0
"""What became startable without a note, such as a job whose delay is over, is found by then."""
AGAIN_SECONDS = 60.0
"""A job that is still queued after so long is told of again: the hint may be lost."""
PAUSE_SECONDS = 5.0
WAITING_MAX = 100
"""Hints in a queue that nobody consumes; more would tell nobody more."""
LEAVE_SECONDS = 2.0


class Dispatcher:
    """Any number of them may run; each hint that is sent twice is one for nothing."""

    def __init__(
        self, application: Any, ledger: Ledger, *, clock: Callable[[], float] = monotonic
    ) -> None:
        self._application = application
        self._ledger = ledger
        self._clock = clock
        self._told_at: dict[UUID, float] = {}

    def run(self, stopped: Event) -> None:
        """Rounds until ``stopped``: as soon as the ledger notes a job, and every few seconds."""
        while not stopped.is_set():
            try:
                self._listen(stopped)
            except LedgerUnavailable as error:
                log.warning("dispatch.waits", reason=error.message)
            except BROKER_AWAY as error:
                log.warning("dispatch.waits", reason=f"the broker does not answer: {error}")
            except Exception:
                log.exception("dispatch.failed")
            stopped.wait(PAUSE_SECONDS)

    def dispatch(self) -> int:
        """One round; the number of hints sent. Raises LedgerUnavailable, or one of BROKER_AWAY."""
        with self._ledger.unit_of_work() as session:
            startable = hints.startable(session, limit=WAITING_MAX)
        now = self._clock()
        queued = {job_id for ids in startable.values() for job_id in ids}
        self._told_at = {
            job_id: told_at
            for job_id, told_at in self._told_at.items()
            if job_id in queued and now - told_at < AGAIN_SECONDS
        }
        sent = 0
        with self._application.producer_or_acquire() as producer:
            if _waiting(producer, TICKS) > WAITING_MAX:
                producer.channel.queue_purge(TICKS)
            for queue, ids in startable.items():
                untold = [job_id for job_id in ids if job_id not in self._told_at]
                sent += self._tell(producer, queue, untold)
        return sent

    def _tell(self, producer: Any, queue: str, job_ids: Sequence[UUID]) -> int:
        """Send as many as there is room for."""
        if not job_ids:
            return 0
        room = max(0, WAITING_MAX - _waiting(producer, queue))
        for job_id in job_ids[:room]:
            self._application.send_task(
                WAKE, args=[str(job_id)], queue=queue, producer=producer, ignore_result=True
            )
            self._told_at[job_id] = self._clock()
        return min(room, len(job_ids))

    def _listen(self, stopped: Event) -> None:
        with self._ledger.listen() as listener:
            next_round = earliest = self._clock()
            while not stopped.is_set():
                until_round = next_round - self._clock()
                if until_round <= 0:
                    self.dispatch()
                    earliest = self._clock() + GATHER_SECONDS
                    next_round = self._clock() + ROUND_SECONDS
                elif listener.wait(min(until_round, LISTEN_SECONDS)):
                    next_round = earliest


def start_dispatcher(application: Any) -> None:
    """In a thread, until the process ends. Raises SystemExit: Celery swallows other errors."""
    try:
        settings = BeatSettings()
    except ValidationError as error:
        raise SystemExit(str(error)) from error
    ledger = Ledger(settings.database_url.get_secret_value(), pool_size=1)
    stopped = Event()
    thread = Thread(
        target=Dispatcher(application, ledger).run,
        args=(stopped,),
        name="dispatcher",
        daemon=True,
    )
    thread.start()

    def stop() -> None:
        stopped.set()
        thread.join(LEAVE_SECONDS)

    atexit.register(stop)


def _waiting(producer: Any, queue: str) -> int:
    return int(producer.channel.queue_declare(queue=queue).message_count)

"""Runs the schedules of `worker.maintenance` in one worker process."""

from collections.abc import Mapping
from datetime import datetime
from threading import Condition, Thread
from time import monotonic

import structlog

from worker.artifacts import ArtifactStore
from worker.ledger import ticks
from worker.ledger.errors import LedgerUnavailable
from worker.ledger.session import Ledger
from worker.maintenance import SCHEDULES, Schedule

log = structlog.get_logger()
LEAVE_SECONDS = 5.0
PAUSE_SECONDS = 10.0
"""Until the next look after one that the ledger did not answer."""


class Caretaker:
    """A thread for each schedule, so a sweep that takes an hour holds up nothing else."""

    def __init__(
        self,
        ledger: Ledger,
        store: ArtifactStore,
        *,
        worker: str,
        schedules: Mapping[str, Schedule] = SCHEDULES,
    ) -> None:
        self._ledger = ledger
        self._store = store
        self._worker = worker
        self._schedules = schedules
        self._stopped = False
        self._called = Condition()
        # Daemons: what a run has not done when the process leaves, the next moment brings.
        self._threads = [
            Thread(target=self._keep, args=(name,), name=f"maintenance-{name}", daemon=True)
            for name in schedules
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def look(self) -> None:
        """Look now whether something is due; each schedule is looked at once a period anyway."""
        with self._called:
            self._called.notify_all()

    def stop(self) -> None:
        """Begin nothing more; a run that goes on gets a few seconds and is then left."""
        with self._called:
            self._stopped = True
            self._called.notify_all()
        until = monotonic() + LEAVE_SECONDS
        for thread in self._threads:
            thread.join(max(0.0, until - monotonic()))

    def _keep(self, name: str) -> None:
        every_seconds = self._schedules[name].every_seconds
        while not self._stopped:
            pause = min(every_seconds, PAUSE_SECONDS)
            try:
                self._run_if_due(name)
                pause = every_seconds
            except LedgerUnavailable as error:
                log.warning("maintenance.failed", schedule=name, reason=error.message)
            except Exception:
                log.exception("maintenance.failed", schedule=name)
            with self._called:
                if not self._stopped:
                    self._called.wait(pause)

    def _run_if_due(self, name: str) -> None:
        with self._ledger.unit_of_work() as session:
            fire_at = ticks.begin(
                session,
                schedule=name,
                every_seconds=self._schedules[name].every_seconds,
                worker=self._worker,
            )
        if fire_at is not None:
            self._run(name, fire_at)

    def _run(self, name: str, fire_at: datetime) -> None:
        error = None
        try:
            with self._ledger.alone(f"stillhouse.maintenance.{name}") as held:
                if held:
                    self._schedules[name].run(self._ledger, self._store)
                else:
                    error = "the run before it still went on"
        except Exception as failure:
            log.exception("maintenance.failed", schedule=name)
            error = f"{type(failure).__name__}: {failure}"
        with self._ledger.unit_of_work() as session:
            ticks.end(session, schedule=name, fire_at=fire_at, error=error)

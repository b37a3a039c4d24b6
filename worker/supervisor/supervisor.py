"""The slots of one worker process: claims jobs while slots are free, and looks after the rest."""

import os
import socket
from collections.abc import Callable
from pathlib import Path
from threading import Event, Lock, Thread
from uuid import uuid4

import structlog

from worker.artifacts import ArtifactStore
from worker.ledger.errors import LedgerUnavailable
from worker.ledger.jobs import Claim, claim, rescue
from worker.ledger.origin import Origin, origin
from worker.ledger.session import Ledger
from worker.observing.attempts import observed
from worker.observing.starting import observe
from worker.settings import WorkerSettings
from worker.supervisor.attempt import Ask, Attempt
from worker.supervisor.blobs import BlobCache
from worker.supervisor.clock import boottime
from worker.supervisor.layout import Layout
from worker.supervisor.runs import run_directory, strip, sweep

log = structlog.get_logger()
BACKOFF_SECONDS = 0.5
BACKOFF_SECONDS_MAX = 5.0
LISTEN_SECONDS = 0.25
SWEEP_SECONDS = 60.0


class Supervisor:
    """`run` returns after `stop`, when every attempt has ended and was told to the ledger."""

    def __init__(self, settings: WorkerSettings, *, ledger: Ledger, store: ArtifactStore) -> None:
        self.name = (
            settings.worker_name or f"{socket.gethostname()}-{os.getpid()}-{uuid4().hex[:6]}"
        )
        self._settings = settings
        self._ledger = ledger
        self._store = store
        self._runs = settings.work_dir.absolute() / "runs"
        self._layout = Layout(
            self._runs,
            store=store,
            cache=BlobCache(settings.work_dir.absolute() / "blobs", store),
            reserve_bytes=settings.reserve_bytes,
        )
        self._stopping = Event()
        self._wake = Event()
        self._attempts: dict[Attempt, Thread] = {}
        self._lock = Lock()

    def run(self) -> None:
        log.info("worker.started", worker=self.name, slots=self._settings.cpu_slots)
        observe(self._settings, busy=self.busy)
        helpers = [
            Thread(target=task, name=task.__name__.strip("_"), daemon=True)
            for task in (self._listen, self._maintain)
        ]
        for thread in helpers:
            thread.start()
        try:
            self._claim_until_stopped()
        finally:
            self._stopping.set()
            self._end_attempts()
            for thread in helpers:
                thread.join()
            log.info("worker.stopped", worker=self.name)

    def stop(self) -> None:
        """Claim no more; have every trainer write a checkpoint and leave."""
        self._stopping.set()
        self._wake.set()

    def busy(self) -> int:
        """Slots that hold an attempt."""
        return len(self._running())

    def _claim_until_stopped(self) -> None:
        pause = self._settings.poll_seconds
        while not self._stopping.is_set():
            self._wake.clear()
            try:
                started = self.busy() < self._settings.cpu_slots and self._claim_one()
                pause = self._settings.poll_seconds
            except LedgerUnavailable as error:
                started = False
                pause = min(max(2 * pause, BACKOFF_SECONDS), BACKOFF_SECONDS_MAX)
                log.warning("claim.failed", reason=error.message, pause_seconds=pause)
            except Exception:
                # Running attempts must not end because of a row that cannot be claimed.
                started, pause = False, BACKOFF_SECONDS_MAX
                log.exception("claim.failed")
            if not started:
                self._wake.wait(pause)

    def _claim_one(self) -> bool:
        sent_at = boottime()
        with self._ledger.unit_of_work() as session:
            claimed = claim(
                session,
                worker=self.name,
                queues=self._settings.queues,
                lease_seconds=self._settings.lease_seconds,
            )
            if claimed is None:
                return False
            came_from = origin(session, job_id=claimed.job_id)
        self._start(claimed, came_from, sent_at)
        return True

    def _start(self, claimed: Claim, came_from: Origin, sent_at: float) -> None:
        attempt = Attempt(
            claimed,
            run_directory(self._runs, job_id=claimed.job_id, attempt=claimed.attempt),
            sent_at=sent_at,
            ledger=self._ledger,
            store=self._store,
            layout=self._layout,
            settings=self._settings,
        )
        thread = Thread(
            target=self._run_attempt, args=(attempt, came_from), name=f"job-{claimed.job_id}"
        )
        with self._lock:
            self._attempts[attempt] = thread
        thread.start()

    def _run_attempt(self, attempt: Attempt, came_from: Origin) -> None:
        claimed = attempt.claim
        try:
            with observed(
                job_id=claimed.job_id,
                attempt=claimed.attempt,
                kind=claimed.kind,
                worker=self.name,
                origin=came_from,
            ):
                worth_a_look = attempt.run()
                if not worth_a_look:
                    strip(attempt.directory)
        except Exception:
            # The lease runs out and the ledger counts the attempt; other slots are not concerned.
            log.exception("attempt.crashed", job=str(claimed.job_id), attempt=claimed.attempt)
        finally:
            with self._lock:
                del self._attempts[attempt]
            self._wake.set()

    def _running(self) -> dict[Attempt, Thread]:
        with self._lock:
            return dict(self._attempts)

    def _end_attempts(self) -> None:
        running = self._running()
        for attempt in running:
            attempt.ask(Ask.STOP)
        for thread in running.values():
            thread.join()

    def _listen(self) -> None:
        """Hear of new jobs at once; polling finds them too, a little later."""

        def hear() -> None:
            with self._ledger.listen() as listener:
                while not self._stopping.is_set():
                    if listener.wait(LISTEN_SECONDS) & set(self._settings.queues):
                        self._wake.set()

        self._until_stopped(hear, pause_seconds=BACKOFF_SECONDS_MAX, what="listen.failed")

    def _maintain(self) -> None:
        swept_at = 0.0

        def tend() -> None:
            nonlocal swept_at
            if boottime() - swept_at > SWEEP_SECONDS:
                swept_at = boottime()
                self._sweep()
            with self._ledger.unit_of_work() as session:
                rescued = rescue(session)
            for job_id in rescued:
                log.warning("job.rescued", job=str(job_id))

        pause = self._settings.lease_seconds / 6
        self._until_stopped(tend, pause_seconds=pause, what="maintenance.failed")

    def _sweep(self) -> None:
        active = {attempt.directory for attempt in self._running()}
        keep_seconds = self._settings.keep_runs_seconds
        for run in sweep(self._runs, active=active, keep_seconds=keep_seconds):
            log.info("run.removed", path=_below(run, self._runs))

    def _until_stopped(self, task: Callable[[], None], *, pause_seconds: float, what: str) -> None:
        while not self._stopping.is_set():
            try:
                task()
            except LedgerUnavailable as error:
                log.warning(what, reason=error.message)
            except Exception:
                log.exception(what)
            self._stopping.wait(pause_seconds)


def _below(path: Path, folder: Path) -> str:
    return str(path.relative_to(folder))

"""The slots of one worker process: claims jobs while slots are free, and looks after the rest."""

import os
import socket
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from threading import Event, Lock, Thread
from uuid import uuid4

import structlog

from worker.artifacts import ArtifactStore
from worker.build import describe_build
from worker.ledger.builds import note_build
from worker.ledger.errors import LedgerUnavailable
from worker.ledger.jobs import Claim, claim
from worker.ledger.origin import Origin, origin
from worker.ledger.session import Ledger
from worker.ledger.workers import Drain, beat, leave
from worker.maintenance.caretaker import Caretaker
from worker.observing.attempts import observed
from worker.observing.starting import observe
from worker.settings import WorkerSettings
from worker.supervisor.attempt import Ask, Attempt, trainer_environment
from worker.supervisor.blobs import BlobCache
from worker.supervisor.clock import boottime
from worker.supervisor.layout import Layout
from worker.supervisor.runs import run_directory, strip, sweep
from worker.supervisor.slots import Share, Slots

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
        self.queues = settings.queues
        self._settings = settings
        self._build = describe_build()
        self._ledger = ledger
        self._store = store
        self._runs = settings.work_dir.absolute() / "runs"
        self._spool = settings.work_dir.absolute() / "spool"
        self._layout = Layout(
            self._runs,
            store=store,
            cache=BlobCache(settings.work_dir.absolute() / "blobs", store),
            reserve_bytes=settings.reserve_bytes,
            patience_seconds=settings.storage_patience_seconds,
        )
        self._caretaker = Caretaker(ledger, store, worker=self.name)
        self.slots = Slots(settings)
        self._stopping = Event()
        self._ended = Event()
        self._wake = Event()
        self._attempts: dict[Attempt, Thread] = {}
        self._lock = Lock()

    def run(self) -> None:
        log.info("worker.started", worker=self.name, slots=len(self.slots))
        observe(self._settings, slots=len(self.slots), busy=self.busy)
        helpers = [
            Thread(target=task, name=task.__name__.strip("_"), daemon=True)
            for task in (self._listen, self._tidy, self._register)
        ]
        for thread in helpers:
            thread.start()
        self._caretaker.start()
        try:
            self._claim_until_stopped()
        finally:
            self._stopping.set()
            self._end_attempts()
            self._caretaker.stop()
            self._ended.set()
            for thread in helpers:
                thread.join()
            log.info("worker.stopped", worker=self.name)

    def stop(self) -> None:
        """Claim no more; have every trainer write a checkpoint and leave."""
        self._stopping.set()
        self._wake.set()

    def wake(self) -> None:
        """There may be a job to claim."""
        self._wake.set()

    def tick(self) -> None:
        """There may be maintenance to do."""
        self._caretaker.look()

    def busy(self) -> int:
        """Slots that hold an attempt."""
        return len(self._running())

    def claims(self) -> list[Claim]:
        """The attempts that hold them."""
        return [attempt.claim for attempt in self._running()]

    def _claim_until_stopped(self) -> None:
        pause = self._settings.poll_seconds
        while not self._stopping.is_set():
            self._wake.clear()
            try:
                started = self._claim_one()
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
        offer = self.slots.offer()
        if offer.empty:
            return False
        sent_at = boottime()
        with self._ledger.unit_of_work() as session:
            claimed = claim(
                session,
                worker=self.name,
                queues=self.queues,
                lease_seconds=self._settings.lease_seconds,
                offer=offer,
            )
            if claimed is None:
                return False
            note_build(session, job_id=claimed.job_id, attempt=claimed.attempt, build=self._build)
            came_from = origin(session, job_id=claimed.job_id)
        self._start(claimed, came_from, sent_at)
        return True

    def _start(self, claimed: Claim, came_from: Origin, sent_at: float) -> None:
        share = self.slots.take(claimed)
        attempt = Attempt(
            claimed,
            run_directory(self._runs, job_id=claimed.job_id, attempt=claimed.attempt),
            spool=run_directory(self._spool, job_id=claimed.job_id, attempt=claimed.attempt),
            sent_at=sent_at,
            ledger=self._ledger,
            store=self._store,
            layout=self._layout,
            settings=self._settings,
            environment=trainer_environment(os.environ, slots=len(self.slots), gpus=share.gpus),
        )
        thread = Thread(
            target=self._run_attempt,
            args=(attempt, share, came_from),
            name=f"job-{claimed.job_id}",
        )
        with self._lock:
            self._attempts[attempt] = thread
        thread.start()

    def _run_attempt(self, attempt: Attempt, share: Share, came_from: Origin) -> None:
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
            self.slots.give_back(share)
            self._wake.set()

    def _running(self) -> dict[Attempt, Thread]:
        with self._lock:
            return dict(self._attempts)

    def _end_attempts(self) -> None:
        self._ask_all_to_stop()
        for thread in self._running().values():
            thread.join()

    def _ask_all_to_stop(self) -> None:
        for attempt in self._running():
            attempt.ask(Ask.STOP)

    def _listen(self) -> None:
        """Hear of new jobs at once; polling finds them too, a little later."""

        def hear() -> None:
            with self._ledger.listen() as listener:
                while not self._stopping.is_set():
                    if listener.wait(LISTEN_SECONDS) & set(self.queues):
                        self._wake.set()

        self._until_stopped(hear, pause_seconds=BACKOFF_SECONDS_MAX, what="listen.failed")

    def _tidy(self) -> None:
        self._until_stopped(self._sweep, pause_seconds=SWEEP_SECONDS, what="sweep.failed")

    def _register(self) -> None:
        """Say what there is, as long as a job may be held; hear whether the worker is drained."""

        def say() -> None:
            with self._ledger.unit_of_work() as session:
                drain = beat(session, name=self.name, capacity=self.slots.capacity)
            if drain is Drain.EVICT:
                self._ask_all_to_stop()

        pause = self._settings.heartbeat_seconds
        self._until(self._ended, say, pause_seconds=pause, what="register.failed")
        with suppress(LedgerUnavailable), self._ledger.unit_of_work() as session:
            leave(session, name=self.name)

    def _sweep(self) -> None:
        active = [attempt.directory.relative_to(self._runs) for attempt in self._running()]
        for folder in (self._runs, self._spool):
            removed = sweep(
                folder,
                active={folder / path for path in active},
                keep_seconds=self._settings.keep_runs_seconds,
            )
            for run in removed:
                log.info("run.removed", path=_below(run, folder.parent))

    def _until_stopped(self, task: Callable[[], None], *, pause_seconds: float, what: str) -> None:
        self._until(self._stopping, task, pause_seconds=pause_seconds, what=what)

    def _until(
        self, over: Event, task: Callable[[], None], *, pause_seconds: float, what: str
    ) -> None:
        while not over.is_set():
            try:
                task()
            except LedgerUnavailable as error:
                log.warning(what, reason=error.message)
            except Exception:
                log.exception(what)
            over.wait(pause_seconds)


def _below(path: Path, folder: Path) -> str:
    return str(path.relative_to(folder))

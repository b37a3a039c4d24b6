"""One attempt at one job, from its claim to its end."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from threading import Event
from typing import Any, Final

import structlog
from sqlalchemy.orm import Session

from kdcore.spec import FailureKind, Outcome, rundir
from worker.artifacts import ArtifactStore, StorageFull, StorageUnavailable
from worker.ledger.files import FileRef
from worker.ledger.gauges import ended_as
from worker.ledger.jobs import Claim, Directive, finish
from worker.ledger.session import Ledger
from worker.ledger.states import Phase
from worker.observing import tracing
from worker.observing.metrics import ATTEMPT_SECONDS
from worker.settings import WorkerSettings
from worker.supervisor.clock import boottime
from worker.supervisor.ending import classify, read_verdict, store_files
from worker.supervisor.failing import AttemptFailed
from worker.supervisor.heart import Heart
from worker.supervisor.layout import Layout
from worker.supervisor.lease import Lease, LeaseLost
from worker.supervisor.oom import oom_kills
from worker.supervisor.patience import patience_with, patiently
from worker.supervisor.relay import Relay
from worker.supervisor.trainer import Trainer
from worker.supervisor.writer import Writer

log = structlog.get_logger()
LOOK_SECONDS = 0.1
SECRET_PREFIXES = ("KD_", "PG", "AWS_", "MLFLOW_", "OTEL_")


class Ask(Enum):
    """Why a trainer is asked to leave before its end."""

    CANCEL = "cancel"
    PAUSE = "pause"
    STOP = "stop"
    TIME_IS_UP = "time is up"


ASKED_BY: Final = {Directive.CANCEL: Ask.CANCEL, Directive.PAUSE: Ask.PAUSE}


@dataclass
class _Ending:
    """What `finish` will be told."""

    outcome: Outcome
    exit_status: int | None = None
    files: dict[str, FileRef] = field(default_factory=dict)
    verdict: dict[str, Any] | None = None


class Attempt:
    """`run` in a thread of its own; `ask` from any. Whatever happens, no process of it is left."""

    def __init__(
        self,
        claim: Claim,
        run: Path,
        *,
        spool: Path,
        sent_at: float,
        ledger: Ledger,
        store: ArtifactStore,
        layout: Layout,
        settings: WorkerSettings,
        environment: Mapping[str, str],
    ) -> None:
        """``sent_at``: when the claim was sent to the ledger, on the lease's clock.

        ``spool``: folder for what is on its way to the store, outside of the run directory.
        ``environment`` is the trainer's.
        """
        self.claim = claim
        self.directory = run
        self._store = store
        self._layout = layout
        self._settings = settings
        self._look = Event()
        self._environment = environment
        self._lease = Lease(fence_seconds=settings.self_fence_seconds, sent_at=sent_at)
        self._writer = Writer(ledger, self._lease)
        self._relay = Relay(
            run,
            spool=spool,
            job_id=claim.job_id,
            attempt=claim.attempt,
            writer=self._writer,
            store=store,
            lease_seconds=settings.lease_seconds,
            on_stored=self._look.set,
        )
        self._heart = Heart(
            self._writer,
            job_id=claim.job_id,
            attempt=claim.attempt,
            interval_seconds=settings.heartbeat_seconds,
            lease_seconds=settings.lease_seconds,
            alive=self._is_alive,
            on_beat=self._on_beat,
            on_lost=self._look.set,
        )
        self._asked: Ask | None = None
        self._asked_at = 0.0
        self._ended_at = 0.0
        self._patience_seconds = patience_with(store, settings.storage_patience_seconds)
        self._trainer: Trainer | None = None
        self._claimed_at = self._moved_at = sent_at
        self._log = log.bind(job=str(claim.job_id), attempt=claim.attempt)

    def ask(self, ask: Ask) -> None:
        """Have the trainer write a checkpoint and leave."""
        if self._asked is None:
            self._asked_at = boottime()
            self._asked = ask
        self._look.set()

    def run(self) -> bool:
        """Train and tell the ledger. Whether the run directory is worth a look: no clean end."""
        self._log.info("job.claimed", kind=self.claim.kind)
        self._heart.start()
        try:
            ending = self._end()
            self._finish(ending)
        except LeaseLost as lost:
            self._log.warning("attempt.discarded", reason=str(lost))
            self._count("discarded")
            return True
        finally:
            if self._trainer is not None:
                self._trainer.kill()
            self._heart.stop()
            self._relay.close()
        return ending.outcome.status == "failed"

    def _end(self) -> _Ending:
        try:
            return self._train()
        except AttemptFailed as error:
            interrupted = error.failure.kind is FailureKind.INTERRUPTED
            return _Ending(
                Outcome(status="interrupted" if interrupted else "failed", failure=error.failure),
                exit_status=self._trainer.kill() if self._trainer else None,
            )

    def _train(self) -> _Ending:
        with tracing.span("layout"):
            self._layout.lay_out(self.directory, self.claim, check=self._check)
        killed_before = oom_kills()
        self._trainer = Trainer(
            [*self._settings.trainer, str(self.directory)],
            log=self.directory / rundir.LOG,
            fence_seconds=self._settings.self_fence_seconds,
            environment=self._environment,
        )
        self._log.info("trainer.started", pid=self._trainer.pid)
        with tracing.span("trainer"):
            exit_status = self._watch(self._trainer)
        self._ended_at = boottime()
        self._log.info("trainer.ended", exit_status=exit_status)
        self._check_lease()
        give_up_at = self._ended_at + self._patience_seconds
        self._relay.drain(lambda: self._may_wait() and boottime() < give_up_at)
        outcome = classify(
            self.directory,
            exit_status,
            asked=self._asked is not None,
            out_of_memory=oom_kills() != killed_before,
        )
        if self._asked is Ask.TIME_IS_UP and outcome.status == "interrupted":
            raise _ran_too_long()
        return _Ending(
            outcome,
            exit_status=exit_status,
            verdict=read_verdict(self.directory, outcome),
            files=self._store_files(outcome),
        )

    def _watch(self, trainer: Trainer) -> int:
        """Its exit status. Raises LeaseLost; AttemptFailed (`TRAINER_HUNG`, `TRAINER_GARBLED`)."""
        heard_bytes, heard_at = 0, boottime()
        next_turn = 0.0
        kill_at: float | None = None
        while (exit_status := trainer.poll()) is None:
            self._check_lease()
            now = boottime()
            if now >= next_turn or self._relay.has_arrivals():
                self._obey(self._relay.turn())
                next_turn = now + self._settings.relay_seconds
            if self._relay.heard_bytes() != heard_bytes:
                heard_bytes, heard_at = self._relay.heard_bytes(), now
            if self._time_is_up(now):
                self.ask(Ask.TIME_IS_UP)
            if self._asked is not None and kill_at is None:
                self._log.info("trainer.asked_to_leave", why=self._asked.value)
                trainer.terminate()
                kill_at = now + self._settings.grace_seconds
            if kill_at is not None and now >= kill_at:
                self._log.warning("trainer.ignores_sigterm")
                return trainer.kill()
            silent_seconds = now - heard_at
            if kill_at is None and silent_seconds > self._settings.step_deadline_seconds:
                raise AttemptFailed(
                    FailureKind.TRAINER_HUNG, f"the trainer said nothing for {silent_seconds:.0f} s"
                )
            self._look.wait(LOOK_SECONDS)
            self._look.clear()
        return exit_status

    def _store_files(self, outcome: Outcome) -> dict[str, FileRef]:
        try:
            return patiently(
                lambda: store_files(self.directory, outcome, self._store),
                check=self._check_waiting,
                seconds=self._patience_seconds,
            )
        except StorageFull as error:
            raise AttemptFailed(
                FailureKind.DISK_FULL, error.message, remedy=error.remedy
            ) from error
        except StorageUnavailable as error:
            raise AttemptFailed(
                FailureKind.STORAGE_ERROR, error.message, remedy=error.remedy
            ) from error

    def _finish(self, ending: _Ending) -> None:
        files = {**ending.files, **self._relay.last_log(self._check_lease)}

        def end(session: Session) -> tuple[Phase, str | None]:
            job_id, attempt = self.claim.job_id, self.claim.attempt
            phase = finish(
                session,
                job_id=job_id,
                attempt=attempt,
                outcome=ending.outcome,
                files=files,
                exit_status=ending.exit_status,
                verdict=ending.verdict,
            )
            return phase, ended_as(session, job_id=job_id, attempt=attempt)

        with tracing.span("finish"):
            phase, outcome = self._writer.insist(end)
        self._count(str(outcome))
        failure = ending.outcome.failure
        self._log.info(
            "attempt.finished",
            phase=phase.value,
            exit_status=ending.exit_status,
            failure=failure.kind.value if failure else None,
            reason=failure.message if failure else None,
        )

    def _time_is_up(self, now: float) -> bool:
        left = self.claim.seconds_left
        return left is not None and now > self._claimed_at + left

    def _count(self, outcome: str) -> None:
        ATTEMPT_SECONDS.labels(outcome).observe(boottime() - self._claimed_at)

    def _check_lease(self) -> None:
        self._moved_at = boottime()
        self._lease.check()

    def _check(self) -> None:
        """Between two files of the layout."""
        self._check_lease()
        if self._asked is not None:
            raise AttemptFailed(FailureKind.INTERRUPTED, "asked to stop before the trainer started")

    def _may_wait(self) -> bool:
        """For the storage, once the trainer has ended; a worker that stops waits a little."""
        self._check_lease()
        if self._asked is Ask.STOP:
            waits_since = max(self._asked_at, self._ended_at)
            return boottime() - waits_since < self._settings.grace_seconds
        return self._asked is None

    def _check_waiting(self) -> None:
        if not self._may_wait():
            raise AttemptFailed(
                FailureKind.INTERRUPTED, "asked to stop before its results could be stored"
            )

    def _is_alive(self) -> bool:
        """A thread that hangs, in storage for example, must not hold the job for ever."""
        return boottime() - self._moved_at < self._settings.step_deadline_seconds

    def _on_beat(self, directive: Directive) -> None:
        if self._trainer is not None:
            self._trainer.feed()
        self._obey(directive)

    def _obey(self, directive: Directive) -> None:
        if directive is not Directive.CONTINUE:
            self.ask(ASKED_BY[directive])


def trainer_environment(
    own: Mapping[str, str], *, slots: int, gpus: Sequence[str] | None = None
) -> dict[str, str]:
    """The trainer's environment: ours without what gives access to the database and the stores.

    ``gpus``: those that it may see; None leaves that to the machine.
    """
    threads = max(1, (os.cpu_count() or 1) // max(1, slots))
    return {
        "OMP_NUM_THREADS": str(threads),
        **{name: value for name, value in own.items() if not name.startswith(SECRET_PREFIXES)},
        **({} if gpus is None else {"CUDA_VISIBLE_DEVICES": ",".join(gpus)}),
        "PYTHONUNBUFFERED": "1",
    }


def _ran_too_long() -> AttemptFailed:
    return AttemptFailed(
        FailureKind.RUN_TIME_EXCEEDED,
        "the job ran longer than `resources.run_seconds`",
        remedy="Retry it, which goes on from its last checkpoint, or submit it with more time",
    )

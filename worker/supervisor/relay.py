"""What a trainer says and makes while it runs, brought to the ledger in order and once."""

from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import structlog
from sqlalchemy.orm import Session

from kdcore.spec import FailureKind, rundir
from kdcore.spec.events import CheckpointWritten
from worker.artifacts import ArtifactError, ArtifactStore
from worker.ledger.errors import InvalidReference, LedgerUnavailable
from worker.ledger.files import FileRef
from worker.ledger.jobs import Directive, publish, relay
from worker.supervisor.checkpoints import CheckpointUnusable, store_checkpoint
from worker.supervisor.clock import boottime
from worker.supervisor.failing import AttemptFailed
from worker.supervisor.logfile import LogSnapshots
from worker.supervisor.tail import Batch, EventTail
from worker.supervisor.writer import Writer

log = structlog.get_logger()
BATCHES_AT_ONCE = 20
"""So that a trainer that talks without pause does not keep the watch from looking up."""


@dataclass(frozen=True)
class _Stored:
    step: int
    files: dict[str, FileRef]


class Relay:
    """`turn` while the trainer runs, `drain` after it has ended."""

    def __init__(
        self,
        run: Path,
        *,
        job_id: UUID,
        attempt: int,
        writer: Writer,
        store: ArtifactStore,
        lease_seconds: float,
    ) -> None:
        self._run = run
        self._job_id, self._attempt = job_id, attempt
        self._writer = writer
        self._store = store
        self._lease_seconds = lease_seconds
        self._tail = EventTail(run / rundir.EVENTS)
        self._snapshots = LogSnapshots(run, store)
        self._written: CheckpointWritten | None = None
        self._stored: _Stored | None = None

    def heard_bytes(self) -> int:
        """Grows whenever the trainer writes an event."""
        return self._tail.size()

    def turn(self) -> Directive:
        """Bring what is new; what the ledger or the store cannot take now waits for the next turn.

        Raises LeaseLost; AttemptFailed (`TRAINER_GARBLED`).
        """
        directive = Directive.CONTINUE
        try:
            for _ in range(BATCHES_AT_ONCE):
                batch = self._tail.next()
                if batch is None:
                    break
                directive = self._relay(batch)
            self._store_checkpoint()
            self._publish_checkpoint()
            self._publish_log()
        except LedgerUnavailable as error:
            log.warning("relay.waits", job=str(self._job_id), reason=error.message)
        except ArtifactError as error:
            log.warning("store.waits", job=str(self._job_id), reason=error.message)
        return directive

    def drain(self) -> None:
        """Bring the rest of the events and the last checkpoint. Raises like `turn`."""
        while (batch := self._tail.next()) is not None:
            self._writer.insist(lambda session: self._say(session, batch))
            self._took(batch)
        try:
            self._store_checkpoint()
        except ArtifactError as error:
            log.warning("checkpoint.lost", job=str(self._job_id), reason=error.message)
        if self._stored is not None:
            self._writer.insist(self._show_checkpoint)
            self._stored = None

    def last_log(self) -> dict[str, FileRef]:
        """The log at the end of the attempt, under its path; empty if it cannot be stored."""
        try:
            ref = self._snapshots.take(boottime())
        except (ArtifactError, OSError) as error:
            log.warning("log.lost", job=str(self._job_id), reason=str(error))
            return {}
        return {} if ref is None else {rundir.LOG: ref}

    def _relay(self, batch: Batch) -> Directive:
        directive = self._writer.write(lambda session: self._say(session, batch), renews=True)
        self._took(batch)
        return directive

    def _say(self, session: Session, batch: Batch) -> Directive:
        try:
            return relay(
                session,
                job_id=self._job_id,
                attempt=self._attempt,
                events=batch.events,
                lease_seconds=self._lease_seconds,
                upto=batch.upto,
            )
        except InvalidReference as error:
            raise AttemptFailed(
                FailureKind.TRAINER_GARBLED, f"{rundir.EVENTS}: {error.message}"
            ) from error

    def _took(self, batch: Batch) -> None:
        self._tail.take(batch)
        for event in batch.events:
            if isinstance(event, CheckpointWritten):
                self._written = event  # of several only the newest is worth storing

    def _store_checkpoint(self) -> None:
        if self._written is None:
            return
        try:
            files = store_checkpoint(self._run, self._written, self._store)
            self._stored = _Stored(step=self._written.step, files=files)
        except CheckpointUnusable as error:
            log.warning(
                "checkpoint.unusable",
                job=str(self._job_id),
                attempt=self._attempt,
                step=self._written.step,
                reason=str(error),
            )
        self._written = None

    def _publish_checkpoint(self) -> None:
        if self._stored is not None:
            self._writer.write(self._show_checkpoint)
            self._stored = None

    def _show_checkpoint(self, session: Session) -> None:
        assert self._stored is not None
        self._publish(session, self._stored.files, step=self._stored.step)

    def _publish_log(self) -> None:
        now = boottime()
        if self._snapshots.due(now):
            ref = self._snapshots.take(now)
            if ref is not None:
                files = {rundir.LOG: ref}
                self._writer.write(lambda session: self._publish(session, files, step=None))

    def _publish(self, session: Session, files: dict[str, FileRef], *, step: int | None) -> None:
        publish(session, job_id=self._job_id, attempt=self._attempt, files=files, step=step)

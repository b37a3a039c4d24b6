"""What a trainer says and makes while it runs, brought to the ledger in order and once."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from uuid import UUID

import structlog
from sqlalchemy.orm import Session

from kdcore.spec import FailureKind, rundir
from kdcore.spec.events import CheckpointWritten
from worker.artifacts import ArtifactError, ArtifactStore, StorageUnavailable
from worker.ledger.errors import InvalidReference, LedgerUnavailable
from worker.ledger.files import FileRef
from worker.ledger.jobs import Directive, publish, relay
from worker.supervisor.checkpoints import CheckpointUnusable, store_checkpoint
from worker.supervisor.clock import boottime
from worker.supervisor.failing import AttemptFailed
from worker.supervisor.logfile import LogSnapshots
from worker.supervisor.patience import aside
from worker.supervisor.spool import Spool
from worker.supervisor.tail import Batch, EventTail
from worker.supervisor.uploads import Uploads
from worker.supervisor.writer import Writer

log = structlog.get_logger()
BATCHES_AT_ONCE = 20
"""So that a trainer that talks without pause does not keep the watch from looking up."""
LAST_LOG_SECONDS = 10.0
"""The end of a job, its cancellation above all, does not wait longer for a log to be stored."""


@dataclass(frozen=True)
class _Stored:
    """Files that the store holds; of a checkpoint if there is a ``step``."""

    files: dict[str, FileRef]
    step: int | None = None


class Relay:
    """`turn` while the trainer runs, `drain` after it has ended, `close` at last.

    Words go to the ledger in the thread of the caller. Files go to the store in one of their own,
    and the turn after that makes them visible.
    """

    def __init__(
        self,
        run: Path,
        *,
        spool: Path,
        job_id: UUID,
        attempt: int,
        writer: Writer,
        store: ArtifactStore,
        lease_seconds: float,
        on_stored: Callable[[], None],
    ) -> None:
        self._run = run
        self._job_id, self._attempt = job_id, attempt
        self._writer = writer
        self._store = store
        self._lease_seconds = lease_seconds
        self._tail = EventTail(run / rundir.EVENTS)
        self._snapshots = LogSnapshots(run, store)
        self._spool = Spool(spool)
        self._uploads = Uploads(on_done=on_stored)
        self._arrived: SimpleQueue[_Stored] = SimpleQueue()
        self._unpublished: list[_Stored] = []
        self._log = log.bind(job=str(job_id), attempt=attempt)

    def heard_bytes(self) -> int:
        """Grows whenever the trainer writes an event."""
        return self._tail.size()

    def has_arrivals(self) -> bool:
        """Whether the store has got something that the next turn would make visible."""
        return not self._arrived.empty()

    def turn(self) -> Directive:
        """Bring what is new; what the ledger cannot take now waits for the next turn.

        Raises LeaseLost; AttemptFailed (`TRAINER_GARBLED`).
        """
        directive = Directive.CONTINUE
        try:
            for _ in range(BATCHES_AT_ONCE):
                batch = self._tail.next()
                if batch is None:
                    break
                directive = self._relay(batch)
            self._offer_log()
            self._publish_arrivals(self._writer.write)
        except LedgerUnavailable as error:
            self._log.warning("relay.waits", reason=error.message)
        return directive

    def drain(self, go_on: Callable[[], bool]) -> None:
        """Bring the rest of the events and the last checkpoint, for which ``go_on`` says how long.

        Raises like `turn`, and what ``go_on`` raises.
        """
        while (batch := self._tail.next()) is not None:
            self._writer.insist(partial(self._say, batch=batch))
            self._took(batch)
        if not self._uploads.settle(go_on):
            self._log.warning("upload.given_up", what="what the trainer left last")
        self._publish_arrivals(self._writer.insist)

    def last_log(self, check: Callable[[], None]) -> dict[str, FileRef]:
        """The log at the end of the attempt, under its path; empty if it cannot be stored.

        ``check`` is called meanwhile and raises to stop.
        """
        give_up_at = boottime() + LAST_LOG_SECONDS

        def look() -> None:
            check()
            if boottime() > give_up_at:
                raise StorageUnavailable("the store takes too long")

        try:
            ref = aside(lambda: self._snapshots.take(boottime()), check=look)
        except (ArtifactError, OSError) as error:
            self._log.warning("log.lost", reason=str(error))
            return {}
        return {} if ref is None else {rundir.LOG: ref}

    def close(self) -> None:
        """Nothing of this attempt is brought any more."""
        self._uploads.close()
        self._spool.clear()

    def _relay(self, batch: Batch) -> Directive:
        directive = self._writer.write(partial(self._say, batch=batch), renews=True)
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
        written = [event for event in batch.events if isinstance(event, CheckpointWritten)]
        if written:
            self._offer_checkpoint(written[-1])  # of several only the newest is worth storing

    def _offer_checkpoint(self, event: CheckpointWritten) -> None:
        try:
            spooled = self._spool.take(self._run / event.path)
        except OSError as error:
            self._log.warning("checkpoint.unusable", step=event.step, reason=str(error))
            return
        self._uploads.offer("checkpoint", partial(self._store_checkpoint, event, spooled))

    def _store_checkpoint(self, event: CheckpointWritten, spooled: Path) -> None:
        self._spool.begin(spooled)
        try:
            files = store_checkpoint(spooled, event.path, self._store)
            self._arrived.put(_Stored(files, event.step))
        except CheckpointUnusable as error:
            self._log.warning("checkpoint.unusable", step=event.step, reason=str(error))
        self._spool.end(spooled)

    def _offer_log(self) -> None:
        if self._snapshots.due(boottime()):
            self._uploads.offer("log", self._store_log)

    def _store_log(self) -> None:
        ref = self._snapshots.take(boottime())
        if ref is not None:
            self._arrived.put(_Stored({rundir.LOG: ref}))

    def _publish_arrivals(self, write: Callable[[Callable[[Session], None]], None]) -> None:
        while not self._arrived.empty():
            self._unpublished.append(self._arrived.get())
        while self._unpublished:
            write(partial(self._publish, stored=self._unpublished[0]))
            del self._unpublished[0]

    def _publish(self, session: Session, stored: _Stored) -> None:
        publish(
            session,
            job_id=self._job_id,
            attempt=self._attempt,
            files=stored.files,
            step=stored.step,
        )

"""What the holder of a job writes while it runs. Once the job is lost, all of it raises Fenced."""

from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import insert, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.orm import Session

from kdcore.spec import Event
from kdcore.spec.events import Metric, Progress
from worker.ledger.claiming import lease_end
from worker.ledger.errors import Fenced
from worker.ledger.files import FileRef
from worker.ledger.locking import hold
from worker.ledger.states import Phase
from worker.ledger.tables import ArtifactRow, AttemptRow, EventRow, JobRow, MetricRow
from worker.ledger.transitions import note


class Directive(StrEnum):
    """What the holder shall do."""

    CONTINUE = "continue"
    PAUSE = "pause"
    """Write a checkpoint and leave; the job goes on when somebody resumes it."""
    CANCEL = "cancel"


def heartbeat(session: Session, *, job_id: UUID, attempt: int, lease_seconds: float) -> Directive:
    """Holds the job for another ``lease_seconds``."""
    _, directive = _renew(session, job_id, attempt, {"lease_until": lease_end(lease_seconds)})
    return directive


def relay(
    session: Session,
    *,
    job_id: UUID,
    attempt: int,
    events: Sequence[Event],
    lease_seconds: float,
    upto: int | None = None,
) -> Directive:
    """Writes what the trainer said and renews the lease, in one guarded UPDATE and its rows.

    ``upto`` is where in `events.jsonl` this batch ends, in bytes. A batch whose commit was done but
    whose answer was lost is sent again as it was, and is then taken for what it is: already there.

    Of several progress events only the last is kept. A metric point that an earlier attempt already
    reported (the steps between its last checkpoint and its end) stays as it is.
    """
    if upto is not None and not _is_news(session, job_id, attempt, upto):
        events = ()
    kept = _kept(events)
    values: dict[str, Any] = {
        "lease_until": lease_end(lease_seconds),
        "event_number": JobRow.event_number + len(kept),
    }
    progress = [event for event in kept if isinstance(event, Progress)]
    if progress:
        values["progress"] = progress[0].to_json()
    last, directive = _renew(session, job_id, attempt, values)
    if kept:
        first = last - len(kept) + 1
        session.execute(
            insert(EventRow),
            [
                _event_row(job_id, attempt, number, event)
                for number, event in enumerate(kept, start=first)
            ],
        )
    points = list(_points(job_id, kept))
    if points:
        session.execute(upsert(MetricRow).on_conflict_do_nothing(), points)
    return directive


def publish(
    session: Session,
    *,
    job_id: UUID,
    attempt: int,
    files: Mapping[str, FileRef],
    step: int | None,
) -> None:
    """Makes stored files of this attempt visible; saying it again changes nothing.

    With ``step``, ``files`` is one complete checkpoint. A newer one than any before is what the
    next attempt starts from, and it forgives the failed attempts before it.
    """
    job = hold(session, job_id=job_id, attempt=attempt)
    record_files(session, job_id=job_id, attempt=attempt, files=files, step=step)
    if step is None or (job.checkpoint_step is not None and step <= job.checkpoint_step):
        return
    note(
        session,
        job,
        "job.checkpoint_published",
        values={"checkpoint_step": step, "fruitless": 0},
        data={"step": step},
    )


def record_files(
    session: Session,
    *,
    job_id: UUID,
    attempt: int,
    files: Mapping[str, FileRef],
    step: int | None,
) -> None:
    """Artifact rows of an attempt; the caller holds the job's lock."""
    if not files:
        return
    statement = upsert(ArtifactRow)
    new = statement.excluded
    session.execute(
        statement.on_conflict_do_update(
            index_elements=[ArtifactRow.job_id, ArtifactRow.attempt, ArtifactRow.path],
            set_={"sha256": new.sha256, "size": new.size, "step": new.step},
        ),
        [
            {
                "job_id": job_id,
                "attempt": attempt,
                "path": path,
                "sha256": file.sha256,
                "size": file.size,
                "step": step,
            }
            for path, file in files.items()
        ],
    )


def storable(text: str) -> str:
    """What a trainer wrote, without the NUL characters that Postgres refuses."""
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}")


def _renew(
    session: Session, job_id: UUID, attempt: int, values: Mapping[str, Any]
) -> tuple[int, Directive]:
    row = session.execute(
        update(JobRow)
        .where(JobRow.id == job_id, JobRow.attempt == attempt, JobRow.phase == Phase.RUNNING)
        .values(dict(values))
        .returning(JobRow.event_number, JobRow.cancel_requested, JobRow.paused)
        .execution_options(synchronize_session=False)
    ).one_or_none()
    if row is None:
        raise Fenced(f"attempt {attempt} no longer holds job {job_id}")
    number, cancelled, paused = row
    if cancelled:
        return number, Directive.CANCEL
    return number, Directive.PAUSE if paused else Directive.CONTINUE


def _is_news(session: Session, job_id: UUID, attempt: int, upto: int) -> bool:
    hold(session, job_id=job_id, attempt=attempt)  # the job's lock comes before its attempt's
    row = session.execute(
        update(AttemptRow)
        .where(AttemptRow.job_id == job_id, AttemptRow.number == attempt, AttemptRow.relayed < upto)
        .values(relayed=upto)
        .returning(AttemptRow.relayed)
        .execution_options(synchronize_session=False)
    ).one_or_none()
    return row is not None


def _kept(events: Sequence[Event]) -> list[Event]:
    last = next((event for event in reversed(events) if isinstance(event, Progress)), None)
    return [event for event in events if not isinstance(event, Progress) or event is last]


def _event_row(job_id: UUID, attempt: int, number: int, event: Event) -> dict[str, Any]:
    data = _storable_json(event.to_json())
    return {
        "job_id": job_id,
        "number": number,
        "attempt": attempt,
        "type": data.pop("type"),
        "at": event.at,
        "data": {key: value for key, value in data.items() if key != "at"},
    }


def _storable_json(value: Any) -> Any:
    match value:
        case str():
            return storable(value)
        case dict():
            return {storable(key): _storable_json(item) for key, item in value.items()}
        case list():
            return [_storable_json(item) for item in value]
        case _:
            return value


def _points(job_id: UUID, events: Iterable[Event]) -> Iterable[dict[str, Any]]:
    for event in events:
        if isinstance(event, Metric):
            for key, value in event.values.items():
                yield {
                    "job_id": job_id,
                    "key": storable(key),
                    "step": event.step,
                    "value": value,
                    "at": event.at,
                }

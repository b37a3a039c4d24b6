"""The only place where a job changes its phase."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from sqlalchemy import func, insert, select, update
from sqlalchemy.orm import Session

from worker.ledger.errors import Fenced, NotAllowedNow
from worker.ledger.states import TERMINAL, TRANSITIONS, Action, Phase
from worker.ledger.tables import EventRow, JobRow
from worker.ledger.turns import turn_at

CHANNEL: Final = "stillhouse_jobs"
"""NOTIFY channel; the payload is the queue that got a job."""

EVENT_TYPES: Final[dict[Action, str]] = {
    Action.ENQUEUE: "job.enqueued",
    Action.CLAIM: "job.claimed",
    Action.SUCCEED: "job.succeeded",
    Action.RETRY: "job.retried",
    Action.FAIL: "job.failed",
    Action.CANCEL: "job.cancelled",
}

# The first time counts: an interrupted job goes on before those that came after it.
_QUEUED_AT: Final = func.coalesce(JobRow.queued_at, func.now())

_EFFECTS: Final[dict[Phase, Mapping[str, Any]]] = {
    Phase.QUEUED: {
        "queued_at": _QUEUED_AT,
        "turn_at": turn_at(_QUEUED_AT, JobRow.priority),
        "lease_until": None,
    },
    Phase.RUNNING: {"started_at": func.coalesce(JobRow.started_at, func.now())},
    **{phase: {"finished_at": func.now(), "lease_until": None} for phase in TERMINAL},
}


@dataclass(frozen=True)
class Moved:
    """Where the job stands after a transition."""

    phase: Phase
    attempt: int
    event_number: int


def transition(
    session: Session,
    action: Action,
    *,
    job_id: UUID,
    phase: Phase,
    attempt: int | None = None,
    values: Mapping[str, Any] | None = None,
    data: Mapping[str, Any] | None = None,
) -> Moved:
    """Moves the job from ``phase`` by one guarded UPDATE and writes its event.

    ``values`` are further columns, ``data`` is the event's content. Raises NotAllowedNow when
    `TRANSITIONS` has no such way out of ``phase``, and Fenced when the job is no longer in
    ``phase`` or no longer held by ``attempt``.
    """
    target = TRANSITIONS.get((phase, action))
    if target is None:
        raise NotAllowedNow(f"a job that is {phase} cannot {action}")
    guard = [JobRow.id == job_id, JobRow.phase == phase]
    if attempt is not None:
        guard.append(JobRow.attempt == attempt)
    row = session.execute(
        update(JobRow)
        .where(*guard)
        .values(
            {
                "phase": target,
                "event_number": JobRow.event_number + 1,
                **_EFFECTS[target],
                **(values or {}),
            }
        )
        .returning(JobRow.event_number, JobRow.attempt, JobRow.queue)
        .execution_options(synchronize_session=False)
    ).one_or_none()
    if row is None:
        raise Fenced(f"job {job_id} is no longer {phase} under this attempt")
    number, holder, queue = row
    write_event(
        session,
        job_id=job_id,
        number=number,
        attempt=holder if phase is Phase.RUNNING or target is Phase.RUNNING else None,
        type=EVENT_TYPES[action],
        data={"phase": target, **(data or {})},
    )
    if target is Phase.QUEUED:
        wake(session, queue)
    return Moved(phase=target, attempt=holder, event_number=number)


def note(
    session: Session,
    job: JobRow,
    type: str,
    *,
    values: Mapping[str, Any],
    data: Mapping[str, Any] | None = None,
) -> None:
    """Changes ``values`` of a job, whose row is locked, and writes the event; its phase stays."""
    number = session.scalars(
        update(JobRow)
        .where(JobRow.id == job.id)
        .values({"event_number": JobRow.event_number + 1, **values})
        .returning(JobRow.event_number)
        .execution_options(synchronize_session=False)
    ).one()
    write_event(
        session,
        job_id=job.id,
        number=number,
        attempt=job.attempt if job.phase == Phase.RUNNING else None,
        type=type,
        data=data or {},
    )


def write_event(
    session: Session,
    *,
    job_id: UUID,
    number: int,
    attempt: int | None,
    type: str,
    data: Mapping[str, Any],
) -> None:
    """``number`` was taken from `jobs.event_number` in this transaction, under the row's lock."""
    session.execute(
        insert(EventRow).values(
            job_id=job_id, number=number, attempt=attempt, type=type, data=dict(data)
        )
    )


def wake(session: Session, queue: str) -> None:
    """Tells listening workers, when this transaction commits."""
    session.execute(select(func.pg_notify(CHANNEL, queue)))

"""How the queue stands, in numbers: what dashboards and alerts are made of.

Each reading is cheap at any size of the tables: it touches rows that are live or not yet projected.
"""

from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from worker.ledger.states import Phase
from worker.ledger.tables import AttemptRow, JobRow
from worker.ledger.times import seconds_since


@dataclass(frozen=True)
class QueueGauges:
    queue: str
    queued: int = 0
    oldest_seconds: float = 0.0
    """For how long the job that waits longest could have been claimed; 0 without such a job."""
    running: int = 0


def queues(session: Session) -> list[QueueGauges]:
    """The queues with a job that is queued or runs, by name."""
    oldest = func.greatest(func.max(seconds_since(JobRow.not_before)), 0.0)
    waiting = session.execute(
        select(JobRow.queue, func.count(), oldest)
        .where(JobRow.phase == Phase.QUEUED, ~JobRow.paused)
        .group_by(JobRow.queue)
    )
    held = session.execute(
        select(JobRow.queue, func.count().label("jobs"))
        .where(JobRow.phase == Phase.RUNNING)
        .group_by(JobRow.queue)
    )
    queued = {queue: (jobs, seconds) for queue, jobs, seconds in waiting}
    running = {row.queue: row.jobs for row in held}
    return [
        QueueGauges(queue, *queued.get(queue, (0, 0.0)), running=running.get(queue, 0))
        for queue in sorted(queued.keys() | running.keys())
    ]


def expired_leases(session: Session) -> int:
    """Running jobs whose lease has run out: they wait for somebody to rescue them."""
    return session.scalars(
        select(func.count())
        .select_from(JobRow)
        .where(JobRow.phase == Phase.RUNNING, JobRow.lease_until < func.now())
    ).one()


def ended_as(session: Session, *, job_id: UUID, attempt: int) -> str | None:
    """``succeeded``, ``cancelled`` or a failure kind; None while it runs."""
    return session.scalar(
        select(AttemptRow.ended_as).where(AttemptRow.job_id == job_id, AttemptRow.number == attempt)
    )

"""Which jobs a worker should hear of."""

from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from worker.ledger.states import Phase
from worker.ledger.tables import JobRow


def startable(session: Session, *, limit: int) -> dict[str, list[UUID]]:
    """Queued jobs whose delay is over: by queue, at most ``limit`` of each, the next ones first."""
    place = func.row_number().over(
        partition_by=JobRow.queue, order_by=(JobRow.priority.desc(), JobRow.queued_at, JobRow.id)
    )
    jobs = (
        select(JobRow.id, JobRow.queue, place.label("place"))
        .where(JobRow.phase == Phase.QUEUED, JobRow.not_before <= func.now())
        .subquery()
    )
    rows = session.execute(
        select(jobs.c.queue, jobs.c.id).where(jobs.c.place <= limit).order_by(jobs.c.place)
    )
    found: dict[str, list[UUID]] = {}
    for queue, id in rows:
        found.setdefault(queue, []).append(id)
    return found

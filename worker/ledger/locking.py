"""Row locks on jobs, always taken in the order (depth, digest, id).

A job's sources have a smaller depth than the job, so whoever goes from a job to its dependents, and
whoever submits a plan from its sources on, climbs in the same direction as everybody else.
``FOR NO KEY UPDATE`` leaves the foreign keys of other tables alone.
"""

from collections.abc import Collection
from uuid import UUID

from sqlalchemy import Select, select
from sqlalchemy.orm import Session

from worker.ledger.errors import Fenced
from worker.ledger.states import Phase
from worker.ledger.tables import JobInputRow, JobRow


def hold(session: Session, *, job_id: UUID, attempt: int) -> JobRow:
    """The locked row of a job that ``attempt`` still runs; raises Fenced otherwise."""
    job = session.scalar(
        locked().where(
            JobRow.id == job_id, JobRow.attempt == attempt, JobRow.phase == Phase.RUNNING
        )
    )
    if job is None:
        raise Fenced(f"attempt {attempt} no longer holds job {job_id}")
    return job


def lock_all(session: Session, ids: Collection[UUID]) -> dict[UUID, JobRow]:
    """The jobs of ``ids``, locked."""
    if not ids:
        return {}
    return {job.id: job for job in session.scalars(locked().where(JobRow.id.in_(ids)))}


def dependents(session: Session, ids: Collection[UUID]) -> set[UUID]:
    """Jobs that still wait, directly or through others, for what the jobs of ``ids`` make."""
    if not ids:
        return set()
    waiting = (
        select(JobInputRow.source_job_id.label("source"), JobInputRow.job_id.label("id"))
        .join(JobRow, JobRow.id == JobInputRow.job_id)
        .where(JobRow.phase == Phase.WAITING)
    )
    edges = waiting.cte("edges")
    found = select(edges.c.id).where(edges.c.source.in_(ids)).cte("found", recursive=True)
    found = found.union(select(edges.c.id).join(found, found.c.id == edges.c.source))
    return set(session.scalars(select(found.c.id)))


def locked() -> Select[JobRow]:
    """Jobs as the lock finds them: what was read before in this session is read again."""
    return (
        select(JobRow)
        .order_by(JobRow.depth, JobRow.digest, JobRow.id)
        .with_for_update(key_share=True, of=JobRow)
        .execution_options(populate_existing=True)
    )

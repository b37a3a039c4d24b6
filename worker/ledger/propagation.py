"""What the end of a job means for the jobs that wait for what it makes."""

from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.orm import Session, aliased

from worker.ledger.locking import dependents, lock_all, locked
from worker.ledger.states import Action, Phase
from worker.ledger.tables import JobInputRow, JobRow
from worker.ledger.transitions import transition

INPUT_FAILED = "input_failed"


def enqueue_dependents(session: Session, job_id: UUID) -> None:
    """Queues each job whose last missing input ``job_id``, just succeeded, has made.

    Two sources that succeed at once meet at the dependent's lock: the second to get it sees, in a
    statement of its own, what the first has committed.
    """
    waiting = session.scalars(
        locked().where(
            JobRow.phase == Phase.WAITING,
            JobRow.id.in_(select(JobInputRow.job_id).where(JobInputRow.source_job_id == job_id)),
        )
    ).all()
    if not waiting:
        return
    for ready in _ready(session, [job.id for job in waiting]):
        transition(
            session,
            Action.ENQUEUE,
            job_id=ready,
            phase=Phase.WAITING,
            values={"not_before": func.now()},
        )


def cancel_dependents(session: Session, job_id: UUID) -> None:
    """Cancels, through all generations, the jobs that can no longer get their inputs."""
    for job in lock_all(session, dependents(session, [job_id])).values():
        if job.phase == Phase.WAITING:
            transition(
                session,
                Action.CANCEL,
                job_id=job.id,
                phase=Phase.WAITING,
                values={"reason": INPUT_FAILED, "message": f"job {job_id} made no result"},
                data={"reason": INPUT_FAILED, "source_job_id": str(job_id)},
            )


def _ready(session: Session, ids: list[UUID]) -> list[UUID]:
    source = aliased(JobRow)
    missing = (
        select(JobInputRow.job_id)
        .join(source, source.id == JobInputRow.source_job_id)
        .where(JobInputRow.job_id == JobRow.id, source.phase != Phase.SUCCEEDED)
    )
    return list(
        session.scalars(
            select(JobRow.id)
            .where(JobRow.id.in_(ids), ~missing.exists())
            .order_by(JobRow.depth, JobRow.digest, JobRow.id)
        )
    )

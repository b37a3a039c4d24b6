"""Pausing is a flag: a queued job is not claimed, the worker of a running one lets go of it.

What was trained is in the checkpoint that the trainer writes before it leaves. A job that waits for
its inputs keeps the flag until it is queued.
"""

from uuid import UUID

from sqlalchemy.orm import Session

from worker.ledger.errors import NotAllowedNow, NotFound
from worker.ledger.locking import locked
from worker.ledger.reading import get_job
from worker.ledger.states import TERMINAL, Phase
from worker.ledger.tables import JobRow
from worker.ledger.transitions import note, wake
from worker.ledger.views import JobView


def pause_job(session: Session, *, owner: str, id: UUID) -> JobView:
    """Pauses the job for every experiment that needs it; asking twice is the same.

    Raises NotFound, and NotAllowedNow when the job has ended or is being cancelled.
    """
    job = _live(session, owner, id)
    if job.cancel_requested:
        raise NotAllowedNow("the job is being cancelled")
    if not job.paused:
        keep_back(session, job)
    return get_job(session, owner=owner, id=id)


def resume_job(session: Session, *, owner: str, id: UUID) -> JobView:
    """Lets a paused job go on; one that is not paused is left alone. Raises as `pause_job`."""
    job = _live(session, owner, id)
    if job.paused:
        release(session, job)
    return get_job(session, owner=owner, id=id)


def keep_back(session: Session, job: JobRow) -> None:
    """``job`` is locked, has not ended and is not paused."""
    note(session, job, "job.paused", values={"paused": True})


def release(session: Session, job: JobRow) -> None:
    """``job`` is locked, has not ended and is paused."""
    note(session, job, "job.resumed", values={"paused": False})
    if job.phase == Phase.QUEUED:
        wake(session, job.queue)


def _live(session: Session, owner: str, id: UUID) -> JobRow:
    job = session.scalar(locked().where(JobRow.id == id, JobRow.owner == owner))
    if job is None:
        raise NotFound(f"no job {id}")
    if job.phase in TERMINAL:
        raise NotAllowedNow(f"the job has ended: {job.phase}")
    return job

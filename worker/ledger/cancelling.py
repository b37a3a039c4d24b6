"""Cancelling is a flag on a running job, which its worker obeys, and immediate on any other."""

from typing import Final
from uuid import UUID

from sqlalchemy.orm import Session

from worker.ledger.errors import NotAllowedNow, NotFound
from worker.ledger.locking import locked
from worker.ledger.propagation import cancel_dependents
from worker.ledger.reading import get_job
from worker.ledger.states import TERMINAL, Action, Phase
from worker.ledger.tables import JobRow
from worker.ledger.transitions import note, transition
from worker.ledger.views import JobView

CANCELLED: Final = "cancelled"


def cancel_job(session: Session, *, owner: str, id: UUID) -> JobView:
    """Cancels the job, for every experiment that needs it, and the jobs that wait for it.

    Raises NotFound, and NotAllowedNow when the job has ended.
    """
    job = session.scalar(locked().where(JobRow.id == id, JobRow.owner == owner))
    if job is None:
        raise NotFound(f"no job {id}")
    if job.phase in TERMINAL:
        raise NotAllowedNow(f"the job has {_ended(job.phase)}")
    request_cancel(session, job)
    cancel_dependents(session, job.id)
    return get_job(session, owner=owner, id=id)


def request_cancel(session: Session, job: JobRow, *, reason: str = CANCELLED) -> None:
    """``job`` is locked and has not ended."""
    if job.phase != Phase.RUNNING:
        transition(
            session,
            Action.CANCEL,
            job_id=job.id,
            phase=Phase(job.phase),
            values={"reason": reason},
            data={"reason": reason},
        )
    elif not job.cancel_requested:
        # A running job has no reason yet; it keeps this one when its worker has let go of it.
        note(
            session,
            job,
            "job.cancel_requested",
            values={"cancel_requested": True, "reason": reason},
            data={"reason": reason},
        )


def _ended(phase: str) -> str:
    return {Phase.SUCCEEDED: "succeeded", Phase.FAILED: "failed"}.get(
        Phase(phase), "been cancelled"
    )

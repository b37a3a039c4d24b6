"""Jobs: where each unit of work stands, and how to stop it."""

from uuid import UUID

from fastapi import APIRouter

from api.bodies.base import ListBody, PageBody
from api.bodies.jobs import AttemptBody, JobBody, JobDetailBody
from api.dependencies import CurrentLedger, CurrentOwner, Cursor, JobId, Limit
from api.problems import Slug, failures
from worker.ledger import jobs, reading
from worker.ledger.pages import Page
from worker.ledger.states import Phase
from worker.ledger.views import JobView

router = APIRouter(prefix="/jobs", tags=["jobs"])


@router.get(
    "",
    response_model=PageBody[JobBody],
    responses=failures(Slug.INVALID_PARAMETER, Slug.INVALID_REFERENCE),
)
def list_jobs(
    ledger: CurrentLedger,
    owner: CurrentOwner,
    phase: Phase | None = None,
    experiment: UUID | None = None,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> Page[JobView]:
    with ledger.unit_of_work() as session:
        return reading.list_jobs(
            session,
            owner=owner,
            phase=phase,
            experiment_id=experiment,
            cursor=cursor,
            limit=limit,
        )


@router.get(
    "/{job_id}",
    response_model=JobDetailBody,
    responses=failures(Slug.NOT_FOUND, Slug.INVALID_PARAMETER),
)
def get_job(job_id: JobId, ledger: CurrentLedger, owner: CurrentOwner) -> JobView:
    with ledger.unit_of_work() as session:
        return reading.get_job(session, owner=owner, id=job_id)


@router.post(
    "/{job_id}/cancel",
    response_model=JobDetailBody,
    responses=failures(Slug.NOT_FOUND, Slug.NOT_ALLOWED_NOW, Slug.INVALID_PARAMETER),
)
def cancel_job(job_id: JobId, ledger: CurrentLedger, owner: CurrentOwner) -> JobView:
    """A job that does not run is cancelled at once; one that runs is asked to stop."""
    with ledger.unit_of_work() as session:
        return jobs.cancel_job(session, owner=owner, id=job_id)


@router.post(
    "/{job_id}/pause",
    response_model=JobDetailBody,
    responses=failures(Slug.NOT_FOUND, Slug.NOT_ALLOWED_NOW, Slug.INVALID_PARAMETER),
)
def pause_job(job_id: JobId, ledger: CurrentLedger, owner: CurrentOwner) -> JobView:
    """Keep it in its queue; one that runs writes a checkpoint and goes back there."""
    with ledger.unit_of_work() as session:
        return jobs.pause_job(session, owner=owner, id=job_id)


@router.post(
    "/{job_id}/resume",
    response_model=JobDetailBody,
    responses=failures(Slug.NOT_FOUND, Slug.NOT_ALLOWED_NOW, Slug.INVALID_PARAMETER),
)
def resume_job(job_id: JobId, ledger: CurrentLedger, owner: CurrentOwner) -> JobView:
    """Let a paused job go on from its last checkpoint."""
    with ledger.unit_of_work() as session:
        return jobs.resume_job(session, owner=owner, id=job_id)


@router.post(
    "/{job_id}/retry",
    response_model=JobDetailBody,
    responses=failures(Slug.NOT_FOUND, Slug.NOT_ALLOWED_NOW, Slug.INVALID_PARAMETER),
)
def retry_job(job_id: JobId, ledger: CurrentLedger, owner: CurrentOwner) -> JobView:
    """The new job that takes the place of one that failed or was cancelled.

    It goes on from the last checkpoint. Jobs that were cancelled because this one failed come back
    with it, and so does what it needs and failed too.
    """
    with ledger.unit_of_work() as session:
        return jobs.retry_job(session, owner=owner, id=job_id)


@router.get(
    "/{job_id}/attempts",
    response_model=ListBody[AttemptBody],
    responses=failures(Slug.NOT_FOUND, Slug.INVALID_PARAMETER),
)
def list_attempts(
    job_id: JobId, ledger: CurrentLedger, owner: CurrentOwner
) -> ListBody[AttemptBody]:
    """Every claim of the job by a worker, and how it ended."""
    with ledger.unit_of_work() as session:
        attempts = reading.attempts(session, owner=owner, job_id=job_id)
    return ListBody(items=[AttemptBody.model_validate(attempt) for attempt in attempts])

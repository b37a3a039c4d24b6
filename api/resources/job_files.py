"""What a job left behind: artifacts, checkpoints and the log."""

from itertools import groupby
from typing import Annotated

from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from api.bodies.base import ListBody
from api.bodies.jobs import ArtifactBody, CheckpointBody
from api.dependencies import CurrentLedger, CurrentOwner, CurrentStore, JobId
from api.downloads import FILE_SLUGS, Presigned, file_responses, serve
from api.problems import Refusal, Slug, failures
from api.tails import tail_of
from kdcore.spec import rundir
from worker.ledger import reading
from worker.ledger.files import FileRef

router = APIRouter(prefix="/jobs", tags=["jobs"])


@router.get(
    "/{job_id}/artifacts",
    response_model=ListBody[ArtifactBody],
    responses=failures(Slug.NOT_FOUND, Slug.INVALID_PARAMETER),
)
def list_artifacts(
    job_id: JobId, ledger: CurrentLedger, owner: CurrentOwner
) -> ListBody[ArtifactBody]:
    """Files of the attempt that counts, and those of the newest checkpoint."""
    with ledger.unit_of_work() as session:
        artifacts = reading.artifacts(session, owner=owner, job_id=job_id)
    return ListBody(items=[ArtifactBody.model_validate(item) for item in artifacts])


@router.head("/{job_id}/artifacts/{path:path}", include_in_schema=False)
@router.get(
    "/{job_id}/artifacts/{path:path}",
    response_class=Response,
    responses=file_responses(presigned=True),
)
def download_artifact(
    job_id: JobId,
    path: str,
    request: Request,
    ledger: CurrentLedger,
    store: CurrentStore,
    owner: CurrentOwner,
    presigned: Presigned = False,
) -> Response:
    """The bytes of one file; `ETag` is its sha256, and one range may be asked for."""
    with ledger.unit_of_work() as session:
        artifacts = reading.artifacts(session, owner=owner, job_id=job_id)
    found = next((item for item in artifacts if item.path == path), None)
    if found is None:
        raise Refusal(Slug.NOT_FOUND, f"The job has no artifact {path[:200]}.")
    ref = FileRef(sha256=found.sha256, size=found.size)
    return serve(store, ref, path, request, presigned=presigned)


@router.get(
    "/{job_id}/logs",
    response_class=Response,
    responses={
        200: {"content": {"text/plain": {"schema": {"type": "string"}}}, "description": "The log"},
        **failures(*FILE_SLUGS),
    },
)
def get_log(
    job_id: JobId,
    request: Request,
    ledger: CurrentLedger,
    store: CurrentStore,
    owner: CurrentOwner,
    tail: Annotated[int | None, Query(ge=1, le=100_000, description="Last lines only")] = None,
) -> Response:
    """What the trainer printed in its last attempt; empty as long as nothing was published."""
    with ledger.unit_of_work() as session:
        artifacts = reading.artifacts(session, owner=owner, job_id=job_id)
    found = next((item for item in artifacts if item.path == rundir.LOG), None)
    if found is None:
        return PlainTextResponse("")
    ref = FileRef(sha256=found.sha256, size=found.size)
    if tail is None:
        return serve(store, ref, rundir.LOG, request)
    with store.open(ref) as source:
        return PlainTextResponse(tail_of(source, tail))


@router.get(
    "/{job_id}/checkpoints",
    response_model=ListBody[CheckpointBody],
    responses=failures(Slug.NOT_FOUND, Slug.INVALID_PARAMETER),
)
def list_checkpoints(
    job_id: JobId, ledger: CurrentLedger, owner: CurrentOwner
) -> ListBody[CheckpointBody]:
    """From which steps the job can go on."""
    with ledger.unit_of_work() as session:
        artifacts = reading.artifacts(session, owner=owner, job_id=job_id)
    steps = sorted((item for item in artifacts if item.step is not None), key=_step, reverse=True)
    return ListBody(
        items=[
            CheckpointBody(step=step, files=[ArtifactBody.model_validate(item) for item in files])
            for step, files in groupby(steps, key=_step)
        ]
    )


def _step(artifact: reading.ArtifactView) -> int:
    return artifact.step or 0

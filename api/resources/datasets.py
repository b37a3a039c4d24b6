"""Datasets: immutable revisions of files that were validated when they were registered."""

from fastapi import APIRouter
from starlette.responses import Response

from api.bodies.base import PageBody
from api.bodies.datasets import DatasetBody, DatasetSummaryBody, RevisionBody, RevisionSummaryBody
from api.dependencies import (
    CurrentLedger,
    CurrentOwner,
    CurrentRegistrar,
    Cursor,
    Limit,
    Number,
    ThingName,
)
from api.document import StrictJsonRoute
from api.problems import Slug, failures
from kdcore.spec import DatasetSource
from worker.ledger import datasets
from worker.ledger.datasets import DatasetSummary
from worker.ledger.pages import Page

router = APIRouter(prefix="/datasets", tags=["datasets"], route_class=StrictJsonRoute)


@router.post(
    "",
    status_code=201,
    response_model=RevisionBody,
    responses={
        200: {"model": RevisionBody, "description": "These files are registered already."},
        **failures(
            Slug.INVALID_JSON,
            Slug.REQUEST_TIMEOUT,
            Slug.DATASET_CHANGED,
            Slug.CONTENT_TOO_LARGE,
            Slug.UNSUPPORTED_MEDIA_TYPE,
            Slug.INVALID_SPEC,
            Slug.INVALID_DATASET,
            Slug.SCAN_FAILED,
            Slug.BUSY,
            Slug.STORAGE_FULL,
        ),
    },
)
def register_dataset(
    source: DatasetSource, registrar: CurrentRegistrar, owner: CurrentOwner, response: Response
) -> RevisionBody:
    """Validate every file of a folder of the server and keep a copy of them as a revision."""
    revision, created = registrar.register(source, owner=owner)
    response.status_code = 201 if created else 200
    response.headers["Location"] = f"/v1/datasets/{revision.dataset}/revisions/{revision.number}"
    return RevisionBody.of(revision)


@router.get(
    "",
    response_model=PageBody[DatasetSummaryBody],
    responses=failures(Slug.INVALID_PARAMETER, Slug.INVALID_REFERENCE),
)
def list_datasets(
    ledger: CurrentLedger, owner: CurrentOwner, cursor: Cursor = None, limit: Limit = 50
) -> Page[DatasetSummary]:
    with ledger.unit_of_work() as session:
        return datasets.list_datasets(session, owner=owner, cursor=cursor, limit=limit)


@router.get(
    "/{name}",
    response_model=DatasetBody,
    responses=failures(Slug.NOT_FOUND, Slug.INVALID_PARAMETER),
)
def get_dataset(name: ThingName, ledger: CurrentLedger, owner: CurrentOwner) -> DatasetBody:
    with ledger.unit_of_work() as session:
        revisions = datasets.list_revisions(session, owner=owner, name=name)
    return DatasetBody(
        name=name,
        latest=revisions[0].number,
        revisions=[RevisionSummaryBody.model_validate(revision) for revision in revisions],
    )


@router.get(
    "/{name}/revisions/{number}",
    response_model=RevisionBody,
    responses=failures(Slug.NOT_FOUND, Slug.INVALID_PARAMETER),
)
def get_revision(
    name: ThingName, number: Number, ledger: CurrentLedger, owner: CurrentOwner
) -> RevisionBody:
    """Classes, splits and pixel statistics of one revision."""
    with ledger.unit_of_work() as session:
        revision = datasets.get_revision(session, owner=owner, ref=f"{name}@{number}")
    return RevisionBody.of(revision)

"""Models: what trainings left behind, version by version."""

from typing import Annotated

from fastapi import APIRouter, Path
from starlette.requests import Request
from starlette.responses import Response

from api.bodies.base import PageBody
from api.bodies.models import ModelBody, ModelSummaryBody
from api.dependencies import (
    CurrentLedger,
    CurrentOwner,
    CurrentStore,
    Cursor,
    Limit,
    Number,
    ThingName,
)
from api.downloads import Presigned, file_responses, serve
from api.problems import Refusal, Slug, failures
from worker.ledger import models
from worker.ledger.aliases import move_alias
from worker.ledger.files import FileRef
from worker.ledger.models import ModelDetail, ModelSummary
from worker.ledger.pages import Page

router = APIRouter(prefix="/models", tags=["models"])


@router.get(
    "",
    response_model=PageBody[ModelSummaryBody],
    responses=failures(Slug.INVALID_PARAMETER, Slug.INVALID_REFERENCE),
)
def list_models(
    ledger: CurrentLedger, owner: CurrentOwner, cursor: Cursor = None, limit: Limit = 50
) -> Page[ModelSummary]:
    with ledger.unit_of_work() as session:
        return models.list_models(session, owner=owner, cursor=cursor, limit=limit)


@router.get(
    "/{name}", response_model=ModelBody, responses=failures(Slug.NOT_FOUND, Slug.INVALID_PARAMETER)
)
def get_model(name: ThingName, ledger: CurrentLedger, owner: CurrentOwner) -> ModelDetail:
    """Its versions, newest first, with their metrics and the jobs that made them."""
    with ledger.unit_of_work() as session:
        return models.get_model(session, owner=owner, name=name)


@router.put(
    "/{name}/versions/{number}/aliases/{alias}",
    response_model=ModelBody,
    responses=failures(Slug.NOT_FOUND, Slug.INVALID_PARAMETER, Slug.INVALID_REFERENCE),
)
def put_alias(
    name: ThingName,
    number: Number,
    alias: Annotated[str, Path(pattern=r"^[a-z][a-z0-9_-]{0,62}$")],
    ledger: CurrentLedger,
    owner: CurrentOwner,
) -> ModelDetail:
    """Move an alias such as `champion` to this version; `models:/NAME@ALIAS` means it from now on."""
    with ledger.unit_of_work() as session:
        move_alias(session, owner=owner, model=name, alias=alias, number=number)
        return models.get_model(session, owner=owner, name=name)


@router.head("/{name}/versions/{number}/files/{file}", include_in_schema=False)
@router.get(
    "/{name}/versions/{number}/files/{file}",
    response_class=Response,
    responses=file_responses(presigned=True),
)
def download_model_file(
    name: ThingName,
    number: Number,
    file: Annotated[str, Path(max_length=200)],
    request: Request,
    ledger: CurrentLedger,
    store: CurrentStore,
    owner: CurrentOwner,
    presigned: Presigned = False,
) -> Response:
    """One file of the model folder, such as `model.safetensors`."""
    with ledger.unit_of_work() as session:
        model = models.get_model(session, owner=owner, name=name)
    version = next((item for item in model.versions if item.number == number), None)
    if version is None or file not in version.files:
        raise Refusal(Slug.NOT_FOUND, f"{name} has no version {number} with a file {file}.")
    ref = FileRef.from_json(version.files[file])
    return serve(store, ref, file, request, presigned=presigned)

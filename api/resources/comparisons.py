"""Comparisons: the verdict of an experiment, as JSON and as a page."""

from typing import Final
from uuid import UUID

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from api.bodies.experiments import ComparisonBody
from api.dependencies import CurrentLedger, CurrentOwner, CurrentStore, ExperimentId
from api.downloads import serve
from api.problems import Refusal, Slug, failures
from kdcore.spec import rundir
from worker.artifacts import ArtifactStore
from worker.ledger import reading
from worker.ledger.files import FileRef
from worker.ledger.session import Ledger
from worker.ledger.views import ComparisonView

router = APIRouter(prefix="/comparisons", tags=["comparisons"])

REPORT_PAGE: Final = f"{rundir.REPORT}/verdict.html"
SANDBOX: Final = {
    # A run wrote the page: it may show its own pictures and styles, and do nothing.
    "Content-Security-Policy": (
        "default-src 'none'; img-src 'self' data:; style-src 'unsafe-inline'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'self'; sandbox allow-same-origin"
    )
}


@router.get(
    "/{experiment_id}",
    response_model=ComparisonBody,
    responses=failures(Slug.NOT_FOUND, Slug.INVALID_PARAMETER),
)
def get_comparison(
    experiment_id: ExperimentId, ledger: CurrentLedger, owner: CurrentOwner
) -> ComparisonView:
    """The verdict, once the comparing job has succeeded; until then its phase."""
    with ledger.unit_of_work() as session:
        return reading.comparison(session, owner=owner, experiment_id=experiment_id)


@router.get(
    "/{experiment_id}/report",
    response_class=Response,
    responses={
        200: {"content": {"text/html": {}}, "description": "The page"},
        **failures(
            Slug.NOT_FOUND, Slug.CONTENT_GONE, Slug.RANGE_NOT_SATISFIABLE, Slug.INVALID_PARAMETER
        ),
    },
)
def get_report(
    experiment_id: ExperimentId,
    request: Request,
    ledger: CurrentLedger,
    store: CurrentStore,
    owner: CurrentOwner,
) -> Response:
    """The report as a page; its pictures are at `images/…`, relative to it."""
    return _serve(ledger, store, request, owner, experiment_id, REPORT_PAGE)


@router.get(
    "/{experiment_id}/images/{path:path}",
    response_class=Response,
    responses={
        200: {"content": {"image/png": {}}, "description": "The picture"},
        **failures(
            Slug.NOT_FOUND, Slug.CONTENT_GONE, Slug.RANGE_NOT_SATISFIABLE, Slug.INVALID_PARAMETER
        ),
    },
)
def get_report_image(
    experiment_id: ExperimentId,
    path: str,
    request: Request,
    ledger: CurrentLedger,
    store: CurrentStore,
    owner: CurrentOwner,
) -> Response:
    return _serve(ledger, store, request, owner, experiment_id, f"{rundir.REPORT}/images/{path}")


def _serve(
    ledger: Ledger,
    store: ArtifactStore,
    request: Request,
    owner: str,
    experiment_id: UUID,
    path: str,
) -> Response:
    with ledger.unit_of_work() as session:
        comparison = reading.comparison(session, owner=owner, experiment_id=experiment_id)
    found = next((item for item in comparison.artifacts if item.path == path), None)
    if found is None:
        raise Refusal(Slug.NOT_FOUND, f"The comparison is {comparison.phase} and has no {path}.")
    ref = FileRef(sha256=found.sha256, size=found.size)
    return serve(store, ref, path, request, inline=True, headers=SANDBOX)

"""Experiments: what is submitted, and the jobs it became."""

from typing import Annotated

import structlog
from fastapi import APIRouter, Body, Header, Query
from starlette.responses import JSONResponse, Response

from api.bodies.base import PageBody
from api.bodies.experiments import (
    AcceptedBody,
    ExperimentBody,
    ExperimentSummaryBody,
    PlanBody,
    PlannedJobBody,
)
from api.dependencies import CurrentLedger, CurrentOwner, Cursor, ExperimentId, Limit
from api.document import StrictJsonRoute
from api.problems import Slug, failures
from kdcore.spec import Experiment, digest
from worker.ledger import experiments
from worker.ledger.origin import keep_trace
from worker.ledger.pages import Page
from worker.ledger.states import Phase
from worker.ledger.views import ExperimentSummary, ExperimentView
from worker.observing import tracing

log = structlog.get_logger()
router = APIRouter(prefix="/experiments", tags=["experiments"], route_class=StrictJsonRoute)

IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=255,
        pattern=r"^[\x20-\x7e]+$",
        description="Send it again with the same body and the experiment is submitted once",
    ),
]


@router.post(
    "",
    status_code=201,
    response_model=AcceptedBody,
    responses={
        200: {"model": PlanBody, "description": "With `validate_only`: the plan"},
        **failures(
            Slug.INVALID_JSON,
            Slug.REQUEST_TIMEOUT,
            Slug.CONTENT_TOO_LARGE,
            Slug.UNSUPPORTED_MEDIA_TYPE,
            Slug.INVALID_SPEC,
            Slug.INVALID_PARAMETER,
            Slug.INVALID_REFERENCE,
            Slug.IDEMPOTENCY_MISMATCH,
        ),
    },
)
def submit_experiment(
    experiment: Annotated[Experiment, Body()],
    ledger: CurrentLedger,
    owner: CurrentOwner,
    idempotency_key: IdempotencyKey = None,
    validate_only: Annotated[bool, Query(description="Answer with the plan only")] = False,
    force: Annotated[bool, Query(description="Run also what could be reused")] = False,
) -> Response:
    """Turn a spec into jobs. Equal work that exists is reused unless `force` is set."""
    with ledger.unit_of_work() as session:
        if validate_only:
            planned = experiments.preview(session, owner=owner, experiment=experiment, force=force)
            return _answer(PlanBody(jobs=[PlannedJobBody.model_validate(job) for job in planned]))
        submission = experiments.submit(
            session,
            owner=owner,
            experiment=experiment,
            request_digest=digest({"experiment": experiment.to_json(), "force": force}),
            idempotency_key=idempotency_key,
            force=force,
        )
        trace = tracing.traceparent()
        if trace is not None and not submission.replayed:
            keep_trace(session, experiment_id=submission.experiment_id, traceparent=trace)
        view = experiments.get_experiment(
            session, owner=owner, id=submission.experiment_id, estimated=False
        )
    log.info("experiment.submitted", experiment=str(view.id), replayed=submission.replayed)
    headers = {"Location": f"/v1/experiments/{view.id}"}
    if submission.replayed:
        headers["Idempotency-Replayed"] = "true"
    return _answer(AcceptedBody.model_validate(view), 201, headers)


@router.get(
    "",
    response_model=PageBody[ExperimentSummaryBody],
    responses=failures(Slug.INVALID_PARAMETER, Slug.INVALID_REFERENCE),
)
def list_experiments(
    ledger: CurrentLedger,
    owner: CurrentOwner,
    phase: Phase | None = None,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> Page[ExperimentSummary]:
    with ledger.unit_of_work() as session:
        return experiments.list_experiments(
            session, owner=owner, phase=phase, cursor=cursor, limit=limit
        )


@router.get(
    "/{experiment_id}",
    response_model=ExperimentBody,
    responses=failures(Slug.NOT_FOUND, Slug.INVALID_PARAMETER),
)
def get_experiment(
    experiment_id: ExperimentId, ledger: CurrentLedger, owner: CurrentOwner
) -> ExperimentView:
    with ledger.unit_of_work() as session:
        return experiments.get_experiment(session, owner=owner, id=experiment_id)


@router.post(
    "/{experiment_id}/cancel",
    response_model=ExperimentBody,
    responses=failures(Slug.NOT_FOUND, Slug.NOT_ALLOWED_NOW, Slug.INVALID_PARAMETER),
)
def cancel_experiment(
    experiment_id: ExperimentId, ledger: CurrentLedger, owner: CurrentOwner
) -> ExperimentView:
    """Cancel its jobs, except those that another experiment needs too."""
    with ledger.unit_of_work() as session:
        return experiments.cancel_experiment(session, owner=owner, id=experiment_id)


@router.post(
    "/{experiment_id}/pause",
    response_model=ExperimentBody,
    responses=failures(Slug.NOT_FOUND, Slug.NOT_ALLOWED_NOW, Slug.INVALID_PARAMETER),
)
def pause_experiment(
    experiment_id: ExperimentId, ledger: CurrentLedger, owner: CurrentOwner
) -> ExperimentView:
    """Pause its jobs, except those that another experiment needs too."""
    with ledger.unit_of_work() as session:
        return experiments.pause_experiment(session, owner=owner, id=experiment_id)


@router.post(
    "/{experiment_id}/resume",
    response_model=ExperimentBody,
    responses=failures(Slug.NOT_FOUND, Slug.NOT_ALLOWED_NOW, Slug.INVALID_PARAMETER),
)
def resume_experiment(
    experiment_id: ExperimentId, ledger: CurrentLedger, owner: CurrentOwner
) -> ExperimentView:
    """Let all its paused jobs go on."""
    with ledger.unit_of_work() as session:
        return experiments.resume_experiment(session, owner=owner, id=experiment_id)


@router.post(
    "/{experiment_id}/retry",
    response_model=ExperimentBody,
    responses=failures(Slug.NOT_FOUND, Slug.NOT_ALLOWED_NOW, Slug.INVALID_PARAMETER),
)
def retry_experiment(
    experiment_id: ExperimentId, ledger: CurrentLedger, owner: CurrentOwner
) -> ExperimentView:
    """Put new jobs in the place of all that failed or were cancelled."""
    with ledger.unit_of_work() as session:
        return experiments.retry_experiment(session, owner=owner, id=experiment_id)


def _answer(
    body: AcceptedBody | PlanBody, status: int = 200, headers: dict[str, str] | None = None
) -> JSONResponse:
    return JSONResponse(body.model_dump(mode="json", by_alias=True), status, headers)

"""What a job tells while it runs: events, pushed or in pages, and metric points."""

from functools import partial
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Header, Query
from starlette.responses import JSONResponse, Response

from api.bodies.base import ListBody
from api.bodies.jobs import EventBody, EventsBody, MetricBody
from api.dependencies import CurrentLedger, CurrentOwner, CurrentSettings, JobId, Stopping
from api.event_stream import Batch, event_stream
from api.problems import Slug, failures
from worker.ledger import reading
from worker.ledger.session import Ledger
from worker.ledger.states import TERMINAL

router = APIRouter(prefix="/jobs", tags=["jobs"])

EventNumber = Annotated[int | None, Query(ge=0, le=2**31 - 1, description="Events behind this one")]
LastEventId = Annotated[
    int | None, Header(ge=0, le=2**31 - 1, description="As `after`; an EventSource sends it")
]


@router.get(
    "/{job_id}/events",
    response_class=Response,
    responses={
        200: {
            "description": "A stream that ends with the job; a page for `Accept: application/json`",
            "model": EventsBody,
            "content": {"text/event-stream": {"schema": {"type": "string"}}},
        },
        204: {"description": "The job is over and no event follows; an EventSource stops asking."},
        **failures(Slug.NOT_FOUND, Slug.INVALID_PARAMETER),
    },
)
def follow_events(
    job_id: JobId,
    ledger: CurrentLedger,
    owner: CurrentOwner,
    settings: CurrentSettings,
    stopping: Stopping,
    after: EventNumber = None,
    last_event_id: LastEventId = None,
    accept: Annotated[str, Header(include_in_schema=False)] = "*/*",
    limit: Annotated[int, Query(ge=1, le=1000)] = 200,
) -> Response:
    """Events in order, each once; `id` is the event's number, from which a stream goes on."""
    position = last_event_id if last_event_id is not None else after or 0
    read = partial(_read, ledger, owner, job_id, limit)
    first = read(position)
    if _wants_page(accept):
        items = [EventBody.model_validate(event) for event in first.events]
        number = items[-1].number if items else position
        page = EventsBody(items=items, next_after=number, ended=first.ended)
        return JSONResponse(page.model_dump(mode="json"))
    if first.ended and not first.events:
        return Response(status_code=204)
    return event_stream(
        read,
        position,
        stopping=stopping,
        poll=settings.api_event_poll_seconds,
        heartbeat=settings.api_heartbeat_seconds,
    )


@router.get(
    "/{job_id}/metrics",
    response_model=ListBody[MetricBody],
    responses=failures(Slug.NOT_FOUND, Slug.INVALID_PARAMETER),
)
def list_metrics(
    job_id: JobId,
    ledger: CurrentLedger,
    owner: CurrentOwner,
    key: Annotated[
        str | None, Query(max_length=300, pattern=r"^[^\x00-\x1f]+$", examples=["val/miou"])
    ] = None,
) -> ListBody[MetricBody]:
    with ledger.unit_of_work() as session:
        points = reading.metrics(session, owner=owner, job_id=job_id, key=key)
    return ListBody(items=[MetricBody.model_validate(point) for point in points])


def _read(ledger: Ledger, owner: str, job_id: UUID, limit: int, after: int) -> Batch:
    """The phase first: events that a terminal job has by then are all that it will ever have."""
    with ledger.unit_of_work() as session:
        job = reading.get_job(session, owner=owner, id=job_id, estimated=False)
        over = job.phase in TERMINAL
        events = reading.events_after(session, owner=owner, job_id=job_id, after=after, limit=limit)
    return Batch(events, ended=over and len(events) < limit)


def _wants_page(accept: str) -> bool:
    accept = accept.lower()
    return "application/json" in accept and "text/event-stream" not in accept

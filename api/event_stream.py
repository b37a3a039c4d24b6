"""A job's events as server-sent events that outlive short outages and can be resumed."""

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Final

import anyio
from fastapi.sse import KEEPALIVE_COMMENT, EventSourceResponse, format_sse_event
from starlette.concurrency import run_in_threadpool

from api.bodies.jobs import EventBody
from worker.ledger.errors import LedgerUnavailable
from worker.ledger.views import EventView

HEADERS: Final = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
RECONNECT_MILLISECONDS: Final = 2000


@dataclass(frozen=True)
class Batch:
    """``ended``: the job was over before these were read, and they are all that is left."""

    events: Sequence[EventView]
    ended: bool


def event_stream(
    read: Callable[[int], Batch],
    after: int,
    *,
    stopping: Callable[[], bool],
    poll: float,
    heartbeat: float,
) -> EventSourceResponse:
    """Everything behind event number ``after``, until the job is over.

    ``read`` is called in a thread, every ``poll`` seconds while nothing happens; a comment goes out
    every ``heartbeat`` seconds of silence, so that proxies keep the connection. When the server is
    ``stopping`` the stream ends early; its reader comes back with the number of the last event.
    """
    return EventSourceResponse(_follow(read, after, stopping, poll, heartbeat), headers=HEADERS)


async def _follow(
    read: Callable[[int], Batch],
    after: int,
    stopping: Callable[[], bool],
    poll: float,
    heartbeat: float,
) -> AsyncIterator[bytes]:
    yield format_sse_event(retry=RECONNECT_MILLISECONDS)
    silent_since = anyio.current_time()
    while not stopping():
        try:
            batch = await run_in_threadpool(read, after)
        except LedgerUnavailable:
            # What is missed now is read once the database is back: nothing is lost, only late.
            batch = Batch((), ended=False)
        for event in batch.events:
            yield _encode(event)
            after = event.number
            silent_since = anyio.current_time()
        if batch.ended:
            return
        if not batch.events:
            await anyio.sleep(poll)
        if anyio.current_time() - silent_since >= heartbeat:
            yield KEEPALIVE_COMMENT
            silent_since = anyio.current_time()


def _encode(event: EventView) -> bytes:
    body = EventBody.model_validate(event)
    return format_sse_event(data_str=body.model_dump_json(), event=event.type, id=str(event.number))

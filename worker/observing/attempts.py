"""An attempt seen from outside: ids on its log lines, its wait and its run in numbers and traces."""

from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

from structlog.contextvars import bound_contextvars

from worker.ledger.origin import Origin
from worker.observing import tracing
from worker.observing.metrics import CLAIM_SECONDS


@contextmanager
def observed(
    *, job_id: UUID, attempt: int, kind: str, worker: str, origin: Origin
) -> Iterator[None]:
    """Around the whole attempt, in the thread that runs it."""
    CLAIM_SECONDS.labels(origin.queue).observe(origin.waited_seconds)
    ids: dict[str, str | int] = {"job": str(job_id), "attempt": attempt}
    about = {**ids, "kind": kind, "queue": origin.queue, "worker": worker}
    attributes = {f"stillhouse.{name}": value for name, value in about.items()}
    parent = origin.traceparent
    with tracing.span(
        "job.waits",
        parent=parent,
        started_seconds_ago=origin.waited_seconds,
        attributes=attributes,
    ):
        pass
    with bound_contextvars(**ids), tracing.span("attempt", parent=parent, attributes=attributes):
        yield

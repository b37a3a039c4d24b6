"""The way of a job from the request that made it to the worker that claims it."""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import func, select, type_coerce, update
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Session

from worker.ledger.tables import EventRow, ExperimentJobRow, JobRow
from worker.ledger.times import seconds_since

SUBMITTED = "job.submitted"


@dataclass(frozen=True)
class Origin:
    """``traceparent`` is that of the request that made the job, if it was traced."""

    queue: str
    waited_seconds: float
    """Since it might have been claimed for the first time, or again after its last attempt."""
    traceparent: str | None


def keep_trace(session: Session, *, experiment_id: UUID, traceparent: str) -> None:
    """Writes the trace into the first event of each job that this experiment made."""
    made = select(ExperimentJobRow.job_id).where(
        ExperimentJobRow.experiment_id == experiment_id, ~ExperimentJobRow.reused
    )
    trace: Any = type_coerce({"trace": traceparent}, JSONB)
    session.execute(
        update(EventRow)
        .where(EventRow.job_id.in_(made), EventRow.number == 1, EventRow.type == SUBMITTED)
        .values(data=EventRow.data.op("||")(trace))
        .execution_options(synchronize_session=False)
    )


def origin(session: Session, *, job_id: UUID) -> Origin:
    """Of a job that was just claimed, in the transaction that claimed it."""
    row = session.execute(
        select(
            JobRow.queue,
            func.greatest(seconds_since(JobRow.not_before), 0.0).label("waited"),
            EventRow.data["trace"].astext.label("trace"),
        )
        .outerjoin(EventRow, (EventRow.job_id == JobRow.id) & (EventRow.number == 1))
        .where(JobRow.id == job_id)
    ).one()
    return Origin(row.queue, row.waited, row.trace)

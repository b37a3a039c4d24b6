"""For a tracking server that has lost what it had: all of it counts as never brought."""

from typing import Final
from uuid import UUID

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from worker.ledger.tables import (
    Base,
    ExperimentJobRow,
    ExperimentRow,
    JobRow,
    MetricRow,
    ModelAliasRow,
    ModelRow,
    ModelVersionRow,
)

JOBS_AT_ONCE: Final = 10
"""Their metrics are many rows."""
_TOLD: Final[dict[type[Base], dict[str, object]]] = {
    ExperimentRow: {"mlflow_run_id": None, "run_closed": False},
    ExperimentJobRow: {"told_job_id": None},
    ModelRow: {"mlflow_name": None},
    ModelVersionRow: {"mlflow_version": None},
    ModelAliasRow: {"told_number": None},
}


def forget_jobs(session: Session, *, after: UUID | None) -> UUID | None:
    """Forgets some jobs behind ``after``, by id; the last one's id, None when there were none.

    The run goes with the marks of what it had, so a worker that brings something to the old run at
    this moment marks nothing.
    """
    some = select(JobRow.id).order_by(JobRow.id).limit(JOBS_AT_ONCE)
    ids = session.scalars(some if after is None else some.where(JobRow.id > after)).all()
    session.execute(
        update(JobRow)
        .where(JobRow.id.in_(ids))
        .values(mlflow_run_id=None, run_closed=False)
        .execution_options(synchronize_session=False)
    )
    session.execute(
        update(MetricRow)
        .where(MetricRow.job_id.in_(ids), MetricRow.projected_at.is_not(None))
        .values(projected_at=None)
        .execution_options(synchronize_session=False)
    )
    return ids[-1] if ids else None


def forget_the_rest(session: Session) -> None:
    """Experiments, models and aliases."""
    for table, values in _TOLD.items():
        session.execute(update(table).values(values).execution_options(synchronize_session=False))

"""Experiments that have not ended in time."""

from collections.abc import Collection
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Select, func, select, update
from sqlalchemy.orm import Session

from worker.ledger.states import TERMINAL
from worker.ledger.steering import cancel_all, hold_experiments
from worker.ledger.tables import ExperimentJobRow, ExperimentRow, JobRow

DEADLINE_EXCEEDED: Final = "deadline_exceeded"


def expires_at(seconds: int | None) -> Any:
    """A value for the column: so many seconds from now on the database's clock."""
    return None if seconds is None else func.now() + timedelta(seconds=seconds)


def expire(session: Session, *, limit: int = 100) -> list[UUID]:
    """Cancels what is past its deadline, with the reason ``deadline_exceeded``; their ids."""
    expired = ExperimentRow.expires_at <= func.now()
    found = session.scalars(
        select(ExperimentRow.id).where(expired).order_by(ExperimentRow.expires_at).limit(limit)
    ).all()
    if not found:
        return []
    held = [row.id for row in hold_experiments(session, ExperimentRow.id.in_(found), expired)]
    late = list(session.scalars(_live(held)))
    if late:
        cancel_all(session, late, reason=DEADLINE_EXCEEDED)
    session.execute(
        update(ExperimentRow)
        .where(ExperimentRow.id.in_(held))
        .values(expires_at=None)
        .execution_options(synchronize_session=False)
    )
    return late


def _live(ids: Collection[UUID]) -> Select[UUID]:
    live = (
        select(JobRow.id)
        .join(ExperimentJobRow, ExperimentJobRow.job_id == JobRow.id)
        .where(ExperimentJobRow.experiment_id == ExperimentRow.id, JobRow.phase.not_in(TERMINAL))
    )
    return select(ExperimentRow.id).where(
        ExperimentRow.id.in_(ids), ~ExperimentRow.cancel_requested, live.exists()
    )

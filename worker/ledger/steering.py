"""Whole experiments: cancelling, pausing, resuming. What others need too is spared.

Whoever steers holds the experiment's row before its jobs, so of two who do so at once the second
sees what the first did.
"""

from collections.abc import Collection, Sequence
from uuid import UUID

from sqlalchemy import ColumnElement, select, update
from sqlalchemy.orm import Session

from worker.ledger.cancelling import CANCELLED, request_cancel
from worker.ledger.errors import NotAllowedNow, NotFound
from worker.ledger.locking import dependents, lock_all
from worker.ledger.overview import get_experiment
from worker.ledger.pausing import keep_back, release
from worker.ledger.propagation import cancel_dependents
from worker.ledger.states import TERMINAL
from worker.ledger.tables import ExperimentJobRow, ExperimentRow, JobRow
from worker.ledger.views import ExperimentView


def cancel_experiment(session: Session, *, owner: str, id: UUID) -> ExperimentView:
    """Cancels those of its jobs that no other experiment still wants; asking twice is the same.

    Raises NotFound, and NotAllowedNow when the experiment has ended.
    """
    _hold_live(session, owner, id)
    cancel_all(session, [id], reason=CANCELLED)
    return get_experiment(session, owner=owner, id=id)


def pause_experiment(session: Session, *, owner: str, id: UUID) -> ExperimentView:
    """Pauses those of its jobs that no other experiment wants to go on; asking twice is the same.

    Raises NotFound, and NotAllowedNow when the experiment has ended or is being cancelled.
    """
    before = _hold_live(session, owner, id)
    if before.cancel_requested:
        raise NotAllowedNow("the experiment is being cancelled")
    _set(session, [id], paused=True)
    wanted = _wanted(~ExperimentRow.cancel_requested & ~ExperimentRow.paused)
    for job in _live_jobs(session, [id], ~wanted & ~JobRow.paused & ~JobRow.cancel_requested):
        keep_back(session, job)
    return get_experiment(session, owner=owner, id=id)


def resume_experiment(session: Session, *, owner: str, id: UUID) -> ExperimentView:
    """Lets all its jobs go on, whoever paused them. Raises as `pause_experiment`."""
    before = _hold_live(session, owner, id)
    if before.cancel_requested:
        raise NotAllowedNow("the experiment is being cancelled")
    _set(session, [id], paused=False)
    for job in _live_jobs(session, [id], JobRow.paused.is_(True)):
        release(session, job)
    return get_experiment(session, owner=owner, id=id)


def cancel_all(session: Session, ids: Collection[UUID], *, reason: str) -> None:
    """Cancels experiments whose rows are held."""
    _set(session, ids, cancel_requested=True)
    unwanted = _live_jobs(session, ids, ~_wanted(~ExperimentRow.cancel_requested))
    for job in unwanted:
        request_cancel(session, job, reason=reason)
    for job in unwanted:
        cancel_dependents(session, job.id)


def hold_experiments(session: Session, *guards: ColumnElement[bool]) -> list[ExperimentRow]:
    """Their locked rows; among experiments the order of locks is that of the ids."""
    return list(
        session.scalars(
            select(ExperimentRow)
            .where(*guards)
            .order_by(ExperimentRow.id)
            .with_for_update(key_share=True, of=ExperimentRow)
            .execution_options(populate_existing=True)
        )
    )


def _hold_live(session: Session, owner: str, id: UUID) -> ExperimentView:
    if not hold_experiments(session, ExperimentRow.id == id, ExperimentRow.owner == owner):
        raise NotFound(f"no experiment {id}")
    held = get_experiment(session, owner=owner, id=id)
    if held.phase in TERMINAL:
        raise NotAllowedNow(f"the experiment is already {held.phase}")
    return held


def _set(session: Session, ids: Collection[UUID], **values: bool) -> None:
    session.execute(
        update(ExperimentRow)
        .where(ExperimentRow.id.in_(ids))
        .values(**values)
        .execution_options(synchronize_session=False)
    )


def _live_jobs(
    session: Session, ids: Collection[UUID], guard: ColumnElement[bool]
) -> Sequence[JobRow]:
    """Locked jobs of the experiments, for which ``guard`` holds once they are locked."""
    linked = set(
        session.scalars(
            select(ExperimentJobRow.job_id).where(ExperimentJobRow.experiment_id.in_(ids))
        )
    )
    lock_all(session, linked | dependents(session, linked))
    # Under the locks: an experiment that was cancelled or submitted at the same time is seen now.
    return session.scalars(
        select(JobRow)
        .where(JobRow.id.in_(linked), JobRow.phase.not_in(TERMINAL), guard)
        .order_by(JobRow.depth, JobRow.digest, JobRow.id)
        .execution_options(populate_existing=True)
    ).all()


def _wanted(by: ColumnElement[bool]) -> ColumnElement[bool]:
    """Whether some experiment, for which ``by`` holds, has the job."""
    return (
        select(ExperimentJobRow.job_id)
        .join(ExperimentRow, ExperimentRow.id == ExperimentJobRow.experiment_id)
        .where(ExperimentJobRow.job_id == JobRow.id, by)
        .exists()
    )

"""What the tracking server does not hold of experiments yet: a run above the runs of their jobs."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import func, or_, select, true, update
from sqlalchemy.orm import Session

from worker.ledger.experiments import get_experiment
from worker.ledger.states import TERMINAL, Phase
from worker.ledger.tables import ExperimentJobRow, ExperimentRow, JobRow


@dataclass(frozen=True)
class LinkedRun:
    """A job of the experiment that has a run. ``told``: the server shows it as this experiment's.

    ``experiment_ids`` are all that the job stands in, the oldest first.
    """

    key: str
    job_id: UUID
    run_id: str
    phase: Phase
    experiment_ids: list[UUID]
    told: bool


@dataclass(frozen=True)
class PendingExperiment:
    """An experiment of which the tracking server lacks something.

    ``complete``: it has ended and so have the runs of its jobs, so its own can be closed.
    ``started``: a job of it has ever been run; without one there is no run to make.
    """

    id: UUID
    run_id: str | None
    owner: str
    name: str
    kind: str
    spec: dict[str, Any]
    dataset: str
    fingerprint: str
    created_at: datetime
    finished_at: datetime | None
    phase: Phase
    started: bool
    complete: bool
    runs: list[LinkedRun]


def pending_experiments(
    session: Session, *, limit: int, skip: Collection[UUID] = ()
) -> list[PendingExperiment]:
    """The oldest first."""
    # A job that goes on for somebody else is nothing that a cancelled experiment waits for.
    goes_on = JobRow.phase.not_in(TERMINAL)
    counts_for_it = ~ExperimentRow.cancel_requested | JobRow.cancel_requested | ~goes_on
    started = JobRow.attempt > 0
    untold = ExperimentJobRow.told_job_id.is_distinct_from(ExperimentJobRow.job_id)
    jobs = (
        select(
            func.count().filter(started).label("started"),
            func.count().filter(JobRow.mlflow_run_id.is_not(None), untold).label("untold"),
            func.count()
            .filter(counts_for_it, goes_on | (started & ~JobRow.run_closed))
            .label("awaited"),
        )
        .join(ExperimentJobRow, ExperimentJobRow.job_id == JobRow.id)
        .where(ExperimentJobRow.experiment_id == ExperimentRow.id)
        .correlate(ExperimentRow)
        .lateral("jobs")
    )
    lacks_run = ExperimentRow.mlflow_run_id.is_(None) & (jobs.c.started > 0)
    rows = session.execute(
        select(ExperimentRow, jobs.c.started, jobs.c.awaited)
        .join(jobs, true())
        .where(
            ~ExperimentRow.run_closed,
            ExperimentRow.id.not_in(skip),
            or_(lacks_run, jobs.c.untold > 0, jobs.c.awaited == 0),
        )
        .order_by(ExperimentRow.created_at, ExperimentRow.id)
        .limit(limit)
    ).all()
    return [_pending(session, row, started > 0, awaited == 0) for row, started, awaited in rows]


def set_experiment_run(session: Session, *, experiment_id: UUID, run_id: str) -> str:
    """As `projection.set_run`: of several runs that were made at once, the one that stands."""
    session.execute(
        update(ExperimentRow)
        .where(ExperimentRow.id == experiment_id, ExperimentRow.mlflow_run_id.is_(None))
        .values(mlflow_run_id=run_id)
        .execution_options(synchronize_session=False)
    )
    standing = session.scalars(
        select(ExperimentRow.mlflow_run_id).where(ExperimentRow.id == experiment_id)
    ).one()
    assert standing is not None
    return standing


def mark_told(session: Session, *, experiment_id: UUID, runs: Sequence[LinkedRun]) -> None:
    """The tracking server shows these runs as the experiment's."""
    for run in runs:
        session.execute(
            update(ExperimentJobRow)
            .where(ExperimentJobRow.experiment_id == experiment_id, ExperimentJobRow.key == run.key)
            .values(told_job_id=run.job_id)
            .execution_options(synchronize_session=False)
        )


def close_experiment_run(session: Session, *, experiment_id: UUID, run_id: str | None) -> None:
    """The tracking server knows how the experiment ended, if ``run_id`` still stands."""
    session.execute(
        update(ExperimentRow)
        .where(
            ExperimentRow.id == experiment_id,
            ExperimentRow.mlflow_run_id.is_not_distinct_from(run_id),
        )
        .values(run_closed=True)
        .execution_options(synchronize_session=False)
    )


def _pending(
    session: Session, row: ExperimentRow, started: bool, complete: bool
) -> PendingExperiment:
    shown = get_experiment(session, owner=row.owner, id=row.id)
    return PendingExperiment(
        id=row.id,
        run_id=row.mlflow_run_id,
        owner=row.owner,
        name=row.name,
        kind=row.kind,
        spec=row.spec,
        dataset=f"{shown.dataset}@{shown.revision}",
        fingerprint=shown.fingerprint,
        created_at=row.created_at,
        finished_at=shown.finished_at,
        phase=shown.phase,
        started=started,
        complete=complete,
        runs=_runs(session, row.id),
    )


def _runs(session: Session, experiment_id: UUID) -> list[LinkedRun]:
    rows = session.execute(
        select(ExperimentJobRow, JobRow.mlflow_run_id, JobRow.phase)
        .join(JobRow, JobRow.id == ExperimentJobRow.job_id)
        .where(ExperimentJobRow.experiment_id == experiment_id, JobRow.mlflow_run_id.is_not(None))
        .order_by(ExperimentJobRow.position)
    ).all()
    shared = _experiments_of(session, [link.job_id for link, _, _ in rows])
    return [
        LinkedRun(
            key=link.key,
            job_id=link.job_id,
            run_id=run_id,
            phase=Phase(phase),
            experiment_ids=shared[link.job_id],
            told=link.told_job_id == link.job_id,
        )
        for link, run_id, phase in rows
        if run_id is not None
    ]


def _experiments_of(session: Session, job_ids: Sequence[UUID]) -> dict[UUID, list[UUID]]:
    rows = session.execute(
        select(ExperimentJobRow.job_id, ExperimentRow.id)
        .join(ExperimentRow, ExperimentRow.id == ExperimentJobRow.experiment_id)
        .where(ExperimentJobRow.job_id.in_(job_ids))
        .order_by(ExperimentRow.created_at, ExperimentRow.id)
    )
    found: dict[UUID, list[UUID]] = {}
    for job_id, experiment_id in rows:
        if experiment_id not in found.setdefault(job_id, []):
            found[job_id].append(experiment_id)
    return found

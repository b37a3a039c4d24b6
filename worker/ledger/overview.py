"""Experiments as their owner sees them: their phase is read off their jobs."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Row, Select, case, func, select, true
from sqlalchemy.orm import Session

from worker.ledger.errors import NotFound
from worker.ledger.pages import Page, cut, newest_first
from worker.ledger.reading import experiment_jobs
from worker.ledger.states import TERMINAL, Phase
from worker.ledger.tables import DatasetRow, ExperimentJobRow, ExperimentRow, JobRow, RevisionRow
from worker.ledger.views import ExperimentSummary, ExperimentView, JobView


def get_experiment(
    session: Session, *, owner: str, id: UUID, estimated: bool = True
) -> ExperimentView:
    """Raises NotFound. ``estimated`` as in `experiment_jobs`."""
    query, _ = _summaries(owner)
    row = session.execute(query.where(ExperimentRow.id == id)).one_or_none()
    if row is None:
        raise NotFound(f"no experiment {id}")
    summary = _summary(row)
    experiment: ExperimentRow = row.ExperimentRow
    dataset, revision, fingerprint = session.execute(
        select(DatasetRow.name, RevisionRow.number, RevisionRow.fingerprint)
        .join(RevisionRow, RevisionRow.dataset_id == DatasetRow.id)
        .where(RevisionRow.id == experiment.revision_id)
    ).one()
    jobs = experiment_jobs(session, experiment_id=id, estimated=estimated)
    return ExperimentView(
        id=experiment.id,
        name=experiment.name,
        kind=experiment.kind,
        spec=experiment.spec,
        dataset=dataset,
        revision=revision,
        fingerprint=fingerprint,
        phase=summary.phase,
        cancel_requested=experiment.cancel_requested,
        paused=experiment.paused,
        expires_at=experiment.expires_at,
        created_at=experiment.created_at,
        finished_at=summary.finished_at,
        estimated_remaining_seconds=_remaining(jobs),
        jobs=jobs,
    )


def _remaining(jobs: Sequence[JobView]) -> float | None:
    """The jobs stand in an order in which each follows what it needs."""
    ends: dict[UUID, float | None] = {}
    for job in jobs:
        if job.phase in TERMINAL:
            ends[job.id] = 0.0
            continue
        inputs = [ends[id] for id in job.needs if id in ends]
        own = job.estimated_remaining_seconds
        known = [end for end in inputs if end is not None]
        ends[job.id] = None if own is None or len(known) < len(inputs) else own + max([0.0, *known])
    live = [ends[job.id] for job in jobs if job.phase not in TERMINAL]
    known = [end for end in live if end is not None]
    return max(known) if known and len(known) == len(live) else None


def list_experiments(
    session: Session,
    *,
    owner: str,
    phase: Phase | None = None,
    cursor: str | None = None,
    limit: int = 50,
) -> Page[ExperimentSummary]:
    """Newest first. Raises InvalidReference for a malformed cursor."""
    query, derived = _summaries(owner)
    if phase is not None:
        query = query.where(derived == phase)
    query = newest_first(
        query, created_at=ExperimentRow.created_at, id=ExperimentRow.id, cursor=cursor, limit=limit
    )
    rows, following = cut(
        [_summary(row) for row in session.execute(query)],
        limit,
        lambda summary: (summary.created_at, summary.id),
    )
    return Page(rows, following)


def _summaries(owner: str) -> tuple[Select[Any], ColumnElement[str]]:
    """Experiments with the counts of their jobs, and the phase that follows from them.

    A shared job that goes on for somebody else does not keep a cancelled experiment alive.
    """
    counts_for_it = ~ExperimentRow.cancel_requested | JobRow.cancel_requested
    jobs = (
        select(
            *(func.count().filter(JobRow.phase == phase).label(phase) for phase in Phase),
            func.count().filter(JobRow.phase.not_in(TERMINAL), counts_for_it).label("live"),
            func.max(JobRow.finished_at).label("finished_at"),
        )
        .join(ExperimentJobRow, ExperimentJobRow.job_id == JobRow.id)
        .where(ExperimentJobRow.experiment_id == ExperimentRow.id)
        .correlate(ExperimentRow)
        .lateral("jobs")
    )
    phase: ColumnElement[str] = case(
        ((jobs.c.live > 0) & (jobs.c.running > 0), Phase.RUNNING),
        ((jobs.c.live > 0) & (jobs.c.queued > 0), Phase.QUEUED),
        (jobs.c.live > 0, Phase.WAITING),
        (ExperimentRow.cancel_requested, Phase.CANCELLED),
        (jobs.c.failed > 0, Phase.FAILED),
        (jobs.c.cancelled > 0, Phase.CANCELLED),
        else_=Phase.SUCCEEDED,
    )
    # Work that was done before the experiment came ends with its coming.
    finished_at = case(
        (jobs.c.live == 0, func.greatest(jobs.c.finished_at, ExperimentRow.created_at))
    )
    query = (
        select(
            ExperimentRow,
            phase.label("derived_phase"),
            finished_at.label("ended_at"),
            *(jobs.c[phase].label(f"in_{phase}") for phase in Phase),
        )
        .join(jobs, true())
        .where(ExperimentRow.owner == owner)
        .execution_options(populate_existing=True)
    )
    return query, phase


def _summary(row: Row[Any]) -> ExperimentSummary:
    experiment: ExperimentRow = row.ExperimentRow
    counts = {phase: getattr(row, f"in_{phase}") for phase in Phase}
    return ExperimentSummary(
        id=experiment.id,
        name=experiment.name,
        kind=experiment.kind,
        phase=Phase(row.derived_phase),
        cancel_requested=experiment.cancel_requested,
        paused=experiment.paused,
        created_at=experiment.created_at,
        finished_at=row.ended_at,
        jobs={phase: count for phase, count in counts.items() if count},
    )

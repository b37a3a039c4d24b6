"""What the tracking server does not hold yet: it is a copy, the ledger is the truth."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import Select, func, select, tuple_, union, union_all, update
from sqlalchemy.dialects.postgresql import distinct_on
from sqlalchemy.orm import Session

from worker.ledger.reading import job_views
from worker.ledger.states import TERMINAL
from worker.ledger.tables import (
    ExperimentJobRow,
    ExperimentRow,
    FormerJobRow,
    JobRow,
    MetricRow,
)
from worker.ledger.views import JobView, MetricPoint


@dataclass(frozen=True)
class PendingRun:
    """A job of which the tracking server lacks something.

    The experiment is the first that needed the job; ``params`` is the job's spec. ``complete``: the
    job has ended and ``points`` are the last, so after them the run can be closed.
    """

    job: JobView
    owner: str
    experiment_id: UUID
    experiment_name: str
    key: str
    params: dict[str, Any]
    points: list[MetricPoint]
    complete: bool


def pending(session: Session, *, limit: int) -> list[PendingRun]:
    """Started jobs with points to bring or an end to tell; at most ``limit`` points in all."""
    jobs = session.scalars(select(JobRow).where(JobRow.id.in_(_open(limit)))).all()
    views = {view.id: view for view in job_views(session, jobs, estimated=False)}
    links = _first_links(session, list(views))
    runs: list[PendingRun] = []
    room = limit
    for job in jobs:
        points = _points(session, job.id, room + 1)
        shown = points[:room]
        room -= len(shown)
        link = links[job.id]
        runs.append(
            PendingRun(
                job=views[job.id],
                owner=job.owner,
                experiment_id=link.experiment_id,
                experiment_name=link.name,
                key=link.key,
                params=job.spec,
                points=shown,
                complete=job.phase in TERMINAL and len(points) == len(shown),
            )
        )
    return [run for run in runs if run.points or run.complete]


def set_run(session: Session, *, job_id: UUID, run_id: str) -> str:
    """Compare-and-set of the job's run; of several that were made at once, the one that stands."""
    session.execute(
        update(JobRow)
        .where(JobRow.id == job_id, JobRow.mlflow_run_id.is_(None))
        .values(mlflow_run_id=run_id)
        .execution_options(synchronize_session=False)
    )
    standing = session.scalars(select(JobRow.mlflow_run_id).where(JobRow.id == job_id)).one()
    assert standing is not None
    return standing


def mark_projected(session: Session, *, job_id: UUID, points: Sequence[tuple[str, int]]) -> None:
    """The tracking server holds these points, given as (key, step)."""
    if points:
        session.execute(
            update(MetricRow)
            .where(
                MetricRow.job_id == job_id,
                MetricRow.projected_at.is_(None),
                tuple_(MetricRow.key, MetricRow.step).in_(points),
            )
            .values(projected_at=func.now())
            .execution_options(synchronize_session=False)
        )


def close_run(session: Session, *, job_id: UUID) -> None:
    """The tracking server knows how the job ended; it is no longer pending once its points are."""
    session.execute(
        update(JobRow)
        .where(JobRow.id == job_id, JobRow.phase.in_(TERMINAL))
        .values(run_closed=True)
        .execution_options(synchronize_session=False)
    )


def _open(limit: int) -> Select[UUID]:
    with_points = select(MetricRow.job_id).where(MetricRow.projected_at.is_(None)).distinct()
    ended = select(JobRow.id).where(
        ~JobRow.run_closed, JobRow.attempt > 0, JobRow.phase.in_(TERMINAL)
    )
    both = union(with_points.limit(limit), ended.limit(limit)).subquery()
    return select(both.c[0]).limit(limit)


def _first_links(session: Session, ids: Sequence[UUID]) -> dict[UUID, Any]:
    links = union_all(
        *(
            select(link.job_id, link.experiment_id, link.key).where(link.job_id.in_(ids))
            for link in (ExperimentJobRow, FormerJobRow)
        )
    ).subquery()
    rows = session.execute(
        select(links, ExperimentRow.name)
        .join(ExperimentRow, ExperimentRow.id == links.c.experiment_id)
        .ext(distinct_on(links.c.job_id))
        .order_by(links.c.job_id, ExperimentRow.created_at, ExperimentRow.id)
    )
    return {row.job_id: row for row in rows}


def _points(session: Session, job_id: UUID, limit: int) -> list[MetricPoint]:
    rows = session.scalars(
        select(MetricRow)
        .where(MetricRow.job_id == job_id, MetricRow.projected_at.is_(None))
        .order_by(MetricRow.step, MetricRow.key)
        .limit(limit)
    )
    return [MetricPoint(row.key, row.step, row.value, row.at) for row in rows]

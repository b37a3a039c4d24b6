"""What the tracking server does not hold of jobs yet: it is a copy, the ledger is the truth."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Text, cast, func, or_, select, tuple_, update
from sqlalchemy.orm import Session

from worker.ledger.states import TERMINAL, Phase
from worker.ledger.tables import EventRow, ExperimentJobRow, ExperimentRow, JobRow, MetricRow
from worker.ledger.views import MetricPoint

POINTS_A_RUN: Final = 1000
RUNS_A_ROUND: Final = 50


@dataclass(frozen=True)
class PendingRun:
    """A job of which the tracking server lacks something.

    ``experiment_id`` is the first that needed the job, under ``key``, and has the run
    ``parent_run_id`` once it was made; ``experiment_ids`` are all that need it.
    ``complete``: the job has ended and ``points`` are the last, so after them the run can be closed.
    """

    id: UUID
    run_id: str | None
    owner: str
    kind: str
    key: str
    experiment_id: UUID
    experiment_name: str
    parent_run_id: str | None
    experiment_ids: list[UUID]
    spec: dict[str, Any]
    phase: Phase
    reason: str | None
    message: str | None
    result: dict[str, Any] | None
    attempt: int
    worker: str | None
    started_at: datetime
    finished_at: datetime | None
    ended_seconds: float | None
    """How long ago the job ended."""
    points: list[MetricPoint]
    complete: bool


@dataclass(frozen=True)
class ProjectorLag:
    """``points`` are not on the tracking server yet, the oldest since ``seconds``.

    ``runs`` are of jobs that have ended and whose end it does not know. All of it grows for ever
    where no tracking server is configured.
    """

    points: int
    seconds: float
    runs: int


def pending(
    session: Session,
    *,
    limit: int = POINTS_A_RUN,
    after: UUID | None = None,
    skip: Collection[UUID] = (),
    runs: int = RUNS_A_ROUND,
) -> list[PendingRun]:
    """Started jobs with points to bring or an end to tell, each with at most ``limit`` points.

    They come by id, those behind ``after`` first: who passes the last one's id each time serves all
    of them in turn.
    """
    has_points = (
        select(MetricRow.key)
        .where(MetricRow.job_id == JobRow.id, MetricRow.projected_at.is_(None))
        .exists()
    )
    query = select(JobRow, _seconds_since(JobRow.finished_at)).where(
        ~JobRow.run_closed,
        JobRow.attempt > 0,
        JobRow.id.not_in(skip),
        or_(JobRow.phase.in_(TERMINAL), has_points),
    )
    order = (JobRow.id,) if after is None else (JobRow.id <= after, JobRow.id)
    rows = session.execute(query.order_by(*order).limit(runs)).all()
    links = _links(session, [job.id for job, _ in rows])
    return [
        _run(session, job, ended, places, limit)
        for job, ended in rows
        if (places := links.get(job.id) or _first_link(session, job.id))
    ]


def set_run(session: Session, *, job_id: UUID, run_id: str) -> str:
    """Compare-and-set of the job's run; of several that were made at once, the one that stands.

    An experiment that had ended and got this job afterwards, by a retry, is open again.
    """
    session.execute(
        update(JobRow)
        .where(JobRow.id == job_id, JobRow.mlflow_run_id.is_(None))
        .values(mlflow_run_id=run_id)
        .execution_options(synchronize_session=False)
    )
    session.execute(
        update(ExperimentRow)
        .where(
            ExperimentRow.run_closed,
            ExperimentRow.id.in_(
                select(ExperimentJobRow.experiment_id).where(ExperimentJobRow.job_id == job_id)
            ),
        )
        .values(run_closed=False)
        .execution_options(synchronize_session=False)
    )
    standing = session.scalars(select(JobRow.mlflow_run_id).where(JobRow.id == job_id)).one()
    assert standing is not None
    return standing


def mark_projected(
    session: Session, *, job_id: UUID, run_id: str, points: Sequence[tuple[str, int]]
) -> None:
    """The tracking server holds these points, given as (key, step), if ``run_id`` still stands."""
    if not points:
        return
    stands = select(JobRow.id).where(JobRow.id == job_id, JobRow.mlflow_run_id == run_id).exists()
    session.execute(
        update(MetricRow)
        .where(
            MetricRow.job_id == job_id,
            MetricRow.projected_at.is_(None),
            tuple_(MetricRow.key, MetricRow.step).in_(points),
            stands,
        )
        .values(projected_at=func.now())
        .execution_options(synchronize_session=False)
    )


def close_run(session: Session, *, job_id: UUID, run_id: str) -> None:
    """The tracking server knows how the job ended, and has all its points: it is done with."""
    session.execute(
        update(JobRow)
        .where(JobRow.id == job_id, JobRow.mlflow_run_id == run_id, JobRow.phase.in_(TERMINAL))
        .values(run_closed=True)
        .execution_options(synchronize_session=False)
    )


def lag(session: Session) -> ProjectorLag:
    """How far the tracking server is behind."""
    age = func.greatest(0.0, _seconds_since(func.min(MetricRow.at)))
    points, seconds = session.execute(
        select(func.count(), func.coalesce(age, 0.0))
        .select_from(MetricRow)
        .join(JobRow, JobRow.id == MetricRow.job_id)
        .where(MetricRow.projected_at.is_(None), JobRow.attempt > 0)
    ).one()
    runs = session.scalar(
        select(func.count())
        .select_from(JobRow)
        .where(~JobRow.run_closed, JobRow.attempt > 0, JobRow.phase.in_(TERMINAL))
    )
    return ProjectorLag(points=points, seconds=seconds, runs=runs or 0)


def _run(
    session: Session, job: JobRow, ended: float | None, links: Sequence[Any], limit: int
) -> PendingRun:
    points = _points(session, job.id, limit + 1)
    first = links[0]
    assert job.started_at is not None
    return PendingRun(
        id=job.id,
        run_id=job.mlflow_run_id,
        owner=job.owner,
        kind=job.kind,
        key=first.key,
        experiment_id=first.experiment_id,
        experiment_name=first.name,
        parent_run_id=first.mlflow_run_id,
        experiment_ids=list(dict.fromkeys(link.experiment_id for link in links)),
        spec=job.spec,
        phase=Phase(job.phase),
        reason=job.reason,
        message=job.message,
        result=job.result,
        attempt=job.attempt,
        worker=job.worker,
        started_at=job.started_at,
        finished_at=job.finished_at,
        ended_seconds=ended,
        points=points[:limit],
        complete=job.phase in TERMINAL and len(points) <= limit,
    )


def _links(session: Session, ids: Sequence[UUID]) -> dict[UUID, list[Any]]:
    """The experiments of each job, the oldest first."""
    rows = session.execute(
        select(
            ExperimentJobRow.job_id,
            ExperimentJobRow.experiment_id,
            ExperimentJobRow.key,
            ExperimentRow.name,
            ExperimentRow.mlflow_run_id,
        )
        .join(ExperimentRow, ExperimentRow.id == ExperimentJobRow.experiment_id)
        .where(ExperimentJobRow.job_id.in_(ids))
        .order_by(ExperimentRow.created_at, ExperimentRow.id, ExperimentJobRow.position)
    )
    links: dict[UUID, list[Any]] = {}
    for row in rows:
        links.setdefault(row.job_id, []).append(row)
    return links


def _first_link(session: Session, job_id: UUID) -> list[Any]:
    """Where another job has taken its place by a retry: the experiment that it was submitted for."""
    told = partial(func.jsonb_extract_path_text, EventRow.data)
    rows = session.execute(
        select(
            EventRow.job_id,
            ExperimentRow.id.label("experiment_id"),
            told("key").label("key"),
            ExperimentRow.name,
            ExperimentRow.mlflow_run_id,
        )
        .join(ExperimentRow, cast(ExperimentRow.id, Text) == told("experiment_id"))
        .where(EventRow.job_id == job_id, EventRow.number == 1)
    )
    return list(rows)


def _points(session: Session, job_id: UUID, limit: int) -> list[MetricPoint]:
    rows = session.scalars(
        select(MetricRow)
        .where(MetricRow.job_id == job_id, MetricRow.projected_at.is_(None))
        .order_by(MetricRow.step, MetricRow.key)
        .limit(limit)
    )
    return [MetricPoint(row.key, row.step, row.value, row.at) for row in rows]


def _seconds_since(moment: Any) -> Any:
    return func.date_part("epoch", func.now() - moment)

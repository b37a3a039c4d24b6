"""Jobs as their owner sees them. Whatever belongs to somebody else is NotFound."""

from collections.abc import Collection, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import func, or_, select
from sqlalchemy.orm import Session

from worker.ledger.errors import NotFound
from worker.ledger.estimating import Estimate, estimates
from worker.ledger.pages import Page, cut, newest_first
from worker.ledger.states import Phase
from worker.ledger.tables import (
    ArtifactRow,
    AttemptRow,
    EventRow,
    ExperimentJobRow,
    ExperimentRow,
    FormerJobRow,
    JobInputRow,
    JobRow,
    MetricRow,
)
from worker.ledger.turns import jobs_ahead
from worker.ledger.views import (
    ArtifactView,
    AttemptView,
    ComparisonView,
    EventView,
    JobView,
    MetricPoint,
)

__all__ = [
    "ArtifactView",
    "AttemptView",
    "ComparisonView",
    "EventView",
    "JobView",
    "MetricPoint",
    "Page",
    "artifacts",
    "attempts",
    "comparison",
    "events_after",
    "experiment_jobs",
    "get_job",
    "job_views",
    "list_jobs",
    "metrics",
]

VERDICT_KEY = "verdict"
_UNKNOWN = Estimate(start=None, left=None)


def get_job(session: Session, *, owner: str, id: UUID, estimated: bool = True) -> JobView:
    """Raises NotFound. ``estimated`` as in `experiment_jobs`."""
    return job_views(session, [_owned(session, owner, id)], estimated=estimated)[0]


def list_jobs(
    session: Session,
    *,
    owner: str,
    phase: Phase | None = None,
    experiment_id: UUID | None = None,
    cursor: str | None = None,
    limit: int = 50,
) -> Page[JobView]:
    """Newest first. Raises InvalidReference for a malformed cursor."""
    query = select(JobRow).where(JobRow.owner == owner)
    if phase is not None:
        query = query.where(JobRow.phase == phase)
    if experiment_id is not None:
        linked = (
            select(ExperimentJobRow.job_id)
            .join(ExperimentRow, ExperimentRow.id == ExperimentJobRow.experiment_id)
            .where(ExperimentRow.id == experiment_id, ExperimentRow.owner == owner)
        )
        query = query.where(JobRow.id.in_(linked))
    query = newest_first(
        query, created_at=JobRow.created_at, id=JobRow.id, cursor=cursor, limit=limit
    )
    rows, following = cut(session.scalars(query).all(), limit, lambda row: (row.created_at, row.id))
    return Page(job_views(session, rows), following)


def experiment_jobs(
    session: Session, *, experiment_id: UUID, estimated: bool = True
) -> list[JobView]:
    """The jobs of an experiment, whose owner the caller has checked, in the order of its plan.

    Without ``estimated`` nothing is said of when a job starts and ends, and no other job looked at.
    """
    links = session.scalars(
        select(ExperimentJobRow)
        .where(ExperimentJobRow.experiment_id == experiment_id)
        .order_by(ExperimentJobRow.position)
    ).all()
    rows = session.scalars(
        select(JobRow)
        .where(JobRow.id.in_({link.job_id for link in links}))
        .execution_options(populate_existing=True)
    ).all()
    shown = _Shown(session, rows, estimated=estimated)
    jobs = {row.id: row for row in rows}
    return [shown.view(jobs[link.job_id], link) for link in links]


def events_after(
    session: Session, *, owner: str, job_id: UUID, after: int, limit: int
) -> list[EventView]:
    """At most ``limit`` events with a number above ``after``, in order. Raises NotFound."""
    _owned(session, owner, job_id)
    rows = session.scalars(
        select(EventRow)
        .where(EventRow.job_id == job_id, EventRow.number > after)
        .order_by(EventRow.number)
        .limit(limit)
    )
    return [EventView(row.number, row.attempt, row.type, row.data, row.at) for row in rows]


def metrics(
    session: Session, *, owner: str, job_id: UUID, key: str | None = None
) -> list[MetricPoint]:
    """Every point, of one key if it is given, by key and step. Raises NotFound."""
    _owned(session, owner, job_id)
    query = select(MetricRow).where(MetricRow.job_id == job_id)
    if key is not None:
        query = query.where(MetricRow.key == key)
    rows = session.scalars(query.order_by(MetricRow.key, MetricRow.step))
    return [MetricPoint(row.key, row.step, row.value, row.at) for row in rows]


def artifacts(session: Session, *, owner: str, job_id: UUID) -> list[ArtifactView]:
    """Files of the attempt that counts (the last one) and of the newest checkpoint, by path.

    Raises NotFound.
    """
    job = _owned(session, owner, job_id)
    checkpoint = select(func.max(ArtifactRow.attempt)).where(
        ArtifactRow.job_id == job_id, ArtifactRow.step == job.checkpoint_step
    )
    rows = session.scalars(
        select(ArtifactRow)
        .where(
            ArtifactRow.job_id == job_id,
            or_(
                ArtifactRow.step.is_(None) & (ArtifactRow.attempt == job.attempt),
                (ArtifactRow.step == job.checkpoint_step)
                & (ArtifactRow.attempt == checkpoint.scalar_subquery()),
            ),
        )
        .order_by(ArtifactRow.path)
    )
    return [
        ArtifactView(row.path, row.sha256, row.size, row.step, row.attempt, row.created_at)
        for row in rows
    ]


def attempts(session: Session, *, owner: str, job_id: UUID) -> list[AttemptView]:
    """Every claim of the job, in order. Raises NotFound."""
    _owned(session, owner, job_id)
    rows = session.scalars(
        select(AttemptRow).where(AttemptRow.job_id == job_id).order_by(AttemptRow.number)
    )
    return [
        AttemptView(
            number=row.number,
            worker=row.worker,
            started_at=row.started_at,
            ended_at=row.ended_at,
            ended_as=row.ended_as,
            exit_status=row.exit_status,
            message=row.message,
        )
        for row in rows
    ]


def comparison(session: Session, *, owner: str, experiment_id: UUID) -> ComparisonView:
    """The verdict of an experiment, as far as it has come. Raises NotFound."""
    job = session.scalar(
        select(JobRow)
        .join(ExperimentJobRow, ExperimentJobRow.job_id == JobRow.id)
        .join(ExperimentRow, ExperimentRow.id == ExperimentJobRow.experiment_id)
        .where(
            ExperimentRow.id == experiment_id,
            ExperimentRow.owner == owner,
            ExperimentJobRow.key == VERDICT_KEY,
        )
    )
    if job is None:
        raise NotFound(f"no experiment {experiment_id}")
    return ComparisonView(
        experiment_id=experiment_id,
        job_id=job.id,
        phase=Phase(job.phase),
        verdict=(job.result or {}).get("verdict"),
        artifacts=artifacts(session, owner=owner, job_id=job.id),
    )


def job_views(session: Session, rows: Sequence[JobRow], *, estimated: bool = True) -> list[JobView]:
    """Views of ``rows``, whose owner the caller has checked, in their order."""
    shown = _Shown(session, rows, estimated=estimated)
    return [shown.view(row, None) for row in rows]


class _Shown:
    """What stands around some jobs, read once for all of them."""

    def __init__(self, session: Session, rows: Sequence[JobRow], *, estimated: bool) -> None:
        ids = [row.id for row in rows]
        self.needs = _grouped(session, JobInputRow.job_id, JobInputRow.source_job_id, ids)
        self.experiments = _grouped(
            session, ExperimentJobRow.job_id, ExperimentJobRow.experiment_id, ids
        )
        self.former = _grouped(session, FormerJobRow.job_id, FormerJobRow.experiment_id, ids)
        self.ahead: dict[UUID, int] = {}
        self.estimates: dict[UUID, Estimate] = {}
        if estimated:
            self.ahead = jobs_ahead(session, [row for row in rows if row.phase == Phase.QUEUED])
            self.estimates = estimates(session, rows, self.ahead)

    def view(self, row: JobRow, link: ExperimentJobRow | None) -> JobView:
        estimate = self.estimates.get(row.id, _UNKNOWN)
        experiments = self.experiments.get(row.id, []) + self.former.get(row.id, [])
        return JobView(
            id=row.id,
            kind=row.kind,
            digest=row.digest,
            spec=row.spec,
            phase=Phase(row.phase),
            reason=row.reason,
            message=row.message,
            failure=row.failure,
            queue=row.queue,
            priority=row.priority,
            worker=row.worker,
            attempt=row.attempt,
            progress=row.progress,
            progress_percentage=_percentage(row),
            estimated_start_seconds=estimate.start,
            estimated_remaining_seconds=estimate.left,
            jobs_ahead=self.ahead.get(row.id),
            cancel_requested=row.cancel_requested,
            paused=row.paused,
            retry_of=row.retry_of,
            gpus=row.gpus,
            memory_bytes=row.memory_bytes,
            labels=row.labels,
            run_seconds=row.run_seconds,
            checkpoint_step=row.checkpoint_step,
            result=row.result,
            mlflow_run_id=row.mlflow_run_id,
            created_at=row.created_at,
            queued_at=row.queued_at,
            started_at=row.started_at,
            finished_at=row.finished_at,
            needs=self.needs.get(row.id, []),
            experiment_ids=list(dict.fromkeys(experiments)),
            key=None if link is None else link.key,
            role=None if link is None else link.role,
            reused=None if link is None else link.reused,
        )


def _owned(session: Session, owner: str, id: UUID) -> JobRow:
    job = session.scalar(
        select(JobRow)
        .where(JobRow.id == id, JobRow.owner == owner)
        .execution_options(populate_existing=True)
    )
    if job is None:
        raise NotFound(f"no job {id}")
    return job


def _grouped(
    session: Session, group: Any, member: Any, ids: Collection[UUID]
) -> dict[UUID, list[UUID]]:
    """The distinct members of each group, leaving out NULL."""
    rows = session.execute(
        select(group, member).where(group.in_(ids), member.is_not(None)).distinct().order_by(member)
    )
    grouped: dict[UUID, list[UUID]] = {}
    for owner, value in rows:
        grouped.setdefault(owner, []).append(value)
    return grouped


def _percentage(row: JobRow) -> float | None:
    if row.phase == Phase.SUCCEEDED:
        return 100.0
    if row.progress is None or not row.progress["steps"]:
        return None
    done: float = 100.0 * row.progress["step"] / row.progress["steps"]
    return min(100.0, max(0.0, done))

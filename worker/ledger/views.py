"""What the ledger shows: frozen copies of rows, detached from any session."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from worker.ledger.states import Phase


@dataclass(frozen=True)
class JobView:
    """``key``, ``role`` and ``reused`` are filled where the job is shown with its experiment."""

    id: UUID
    kind: str
    digest: str
    spec: dict[str, Any]
    phase: Phase
    reason: str | None
    message: str | None
    failure: dict[str, Any] | None
    """``{"kind", "message", "field", "remedy"}`` of what ended the job, once it has failed."""
    queue: str
    priority: int
    worker: str | None
    attempt: int
    progress: dict[str, Any] | None
    """The last progress event: ``stage``, ``step``, ``steps`` and what else it said."""
    progress_percentage: float | None
    estimated_start_seconds: float | None
    """Until a worker takes it; None unless it is queued and something is known."""
    estimated_remaining_seconds: float | None
    """Until its end; of a waiting job: from when its inputs are there."""
    jobs_ahead: int | None
    """Queued jobs of the same queue whose turn is before; None unless it may be claimed."""
    cancel_requested: bool
    paused: bool
    retry_of: UUID | None
    gpus: int
    memory_bytes: int | None
    labels: list[str]
    run_seconds: int | None
    checkpoint_step: int | None
    result: dict[str, Any] | None
    """``{"metrics", "step"}`` of a succeeded job, and ``"verdict"`` of a comparison."""
    mlflow_run_id: str | None
    created_at: datetime
    queued_at: datetime | None
    started_at: datetime | None
    finished_at: datetime | None
    needs: list[UUID]
    experiment_ids: list[UUID]
    key: str | None = None
    role: str | None = None
    reused: bool | None = None


@dataclass(frozen=True)
class EventView:
    number: int
    attempt: int | None
    type: str
    data: dict[str, Any]
    at: datetime


@dataclass(frozen=True)
class MetricPoint:
    key: str
    step: int
    value: float
    at: datetime


@dataclass(frozen=True)
class ArtifactView:
    path: str
    sha256: str
    size: int
    step: int | None
    attempt: int
    created_at: datetime


@dataclass(frozen=True)
class AttemptView:
    number: int
    worker: str
    started_at: datetime
    ended_at: datetime | None
    ended_as: str | None
    exit_status: int | None
    message: str | None


@dataclass(frozen=True)
class ComparisonView:
    """``verdict`` is the content of `report/verdict.json`, once the job has succeeded."""

    experiment_id: UUID
    job_id: UUID
    phase: Phase
    verdict: dict[str, Any] | None
    artifacts: list[ArtifactView]


@dataclass(frozen=True)
class ExperimentSummary:
    id: UUID
    name: str
    kind: str
    phase: Phase
    cancel_requested: bool
    paused: bool
    created_at: datetime
    finished_at: datetime | None
    jobs: dict[Phase, int]
    """How many of its jobs are in each phase; absent phases have none."""


@dataclass(frozen=True)
class ExperimentView:
    id: UUID
    name: str
    kind: str
    spec: dict[str, Any]
    dataset: str
    revision: int
    fingerprint: str
    phase: Phase
    cancel_requested: bool
    paused: bool
    expires_at: datetime | None
    """When what has not ended is cancelled."""
    created_at: datetime
    finished_at: datetime | None
    estimated_remaining_seconds: float | None
    """Along the longest way through the jobs that are left; None where one of them is unknown."""
    jobs: list[JobView]


@dataclass(frozen=True)
class PlannedView:
    """A job that a submission leads to; ``phase`` and ``job_id`` are those of the reused job."""

    key: str
    kind: str
    role: str | None
    needs: list[str]
    digest: str
    reused: bool
    phase: Phase | None
    job_id: UUID | None

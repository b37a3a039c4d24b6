"""Experiments, their plans and verdicts, as answers."""

from datetime import datetime
from typing import Any
from uuid import UUID

from pydantic import Field

from api.bodies.base import Body
from api.bodies.jobs import ArtifactBody, JobBody
from worker.ledger.states import Phase


class ExperimentSummaryBody(Body):
    id: UUID
    name: str
    kind: str
    phase: Phase
    cancel_requested: bool
    paused: bool
    jobs: dict[Phase, int] = Field(description="How many of its jobs are in each phase")
    created_at: datetime
    finished_at: datetime | None


class ExperimentBody(Body):
    id: UUID
    name: str
    kind: str
    dataset: str
    revision: int
    fingerprint: str
    phase: Phase
    cancel_requested: bool
    paused: bool
    expires_at: datetime | None = Field(description="What has not ended then is cancelled")
    estimated_remaining_seconds: float | None
    spec: dict[str, Any]
    jobs: list[JobBody] = Field(description="In an order in which each follows what it needs")
    created_at: datetime
    finished_at: datetime | None


class AcceptedJobBody(Body):
    id: UUID
    key: str | None
    kind: str
    role: str | None
    reused: bool | None
    needs: list[UUID]


class AcceptedBody(Body):
    """The answer to a submission: only what never changes, so that a replay is the same answer."""

    id: UUID
    name: str
    kind: str
    dataset: str
    revision: int
    fingerprint: str
    spec: dict[str, Any]
    jobs: list[AcceptedJobBody]
    created_at: datetime


class PlannedJobBody(Body):
    key: str
    kind: str
    role: str | None
    needs: list[str]
    digest: str
    reused: bool = Field(description="Equal work exists and would not run again")
    phase: Phase | None = Field(description="Of the reused job")
    job_id: UUID | None


class PlanBody(Body):
    valid: bool = True
    jobs: list[PlannedJobBody]


class ComparisonBody(Body):
    """`verdict` is there once `phase` is `succeeded`."""

    experiment_id: UUID
    job_id: UUID
    phase: Phase
    verdict: dict[str, Any] | None
    artifacts: list[ArtifactBody]

"""A job, its events, metrics, files and attempts, as answers."""

from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from pydantic import Field, computed_field

from api.bodies.base import Body
from kdcore.spec import FailureKind
from worker.ledger.states import AFTER_FAILURE, TERMINAL, Fault, Phase


class Condition(Body):
    """A Kubernetes-style condition."""

    type: Literal["InputsReady", "Running", "Succeeded", "Paused", "CancelRequested"]
    status: Literal["True", "False", "Unknown"]
    reason: str
    message: str
    last_transition_time: datetime | None = Field(serialization_alias="lastTransitionTime")


class FailureBody(Body):
    kind: str
    message: str
    field: str | None = None
    remedy: str | None = None

    @computed_field
    def fault(self) -> Fault:
        """Where to look for the cause."""
        return AFTER_FAILURE[FailureKind(self.kind)].fault


class JobBody(Body):
    id: UUID
    kind: str
    key: str | None = Field(description="Its name in the experiment through which it is seen")
    role: str | None
    reused: bool | None = Field(description="The work was done, or under way, for something else")
    phase: Phase
    reason: str | None = Field(description="Machine-readable")
    message: str | None
    failure: FailureBody | None
    queue: str
    priority: int
    worker: str | None
    attempt: int
    progress: dict[str, Any] | None
    progress_percentage: float | None = Field(serialization_alias="progressPercentage")
    estimated_remaining_seconds: float | None = Field(
        serialization_alias="estimatedRemainingSeconds"
    )
    estimated_start_seconds: float | None = Field(description="Until a worker takes it")
    jobs_ahead: int | None = Field(description="Jobs of its queue whose turn is before")
    cancel_requested: bool
    paused: bool
    retry_of: UUID | None = Field(description="The job from whose last checkpoint it goes on")
    gpus: int
    memory_bytes: int | None
    labels: list[str]
    run_seconds: int | None
    checkpoint_step: int | None
    result: dict[str, Any] | None
    mlflow_run_id: str | None
    digest: str
    needs: list[UUID]
    experiment_ids: list[UUID]
    created_at: datetime
    queued_at: datetime | None
    started_at: datetime | None
    finished_at: datetime | None

    @computed_field
    def conditions(self) -> list[Condition]:
        return [
            self._inputs_ready(),
            self._running(),
            self._succeeded(),
            *self._pausing(),
            *self._cancelling(),
        ]

    def _inputs_ready(self) -> Condition:
        ready = self.queued_at is not None
        return Condition(
            type="InputsReady",
            status="True" if ready else "False",
            reason="InputsSucceeded" if ready else "InputsMissing",
            message="" if ready else "Waits for the jobs that it needs.",
            last_transition_time=self.queued_at or self.created_at,
        )

    def _running(self) -> Condition:
        running = self.phase is Phase.RUNNING
        reason = {Phase.RUNNING: "Claimed", Phase.WAITING: "Waiting", Phase.QUEUED: "Queued"}
        return Condition(
            type="Running",
            status="True" if running else "False",
            reason=reason.get(self.phase, "Ended"),
            message=f"Attempt {self.attempt}." if running else "",
            last_transition_time=self.finished_at or self.started_at or self.queued_at,
        )

    def _succeeded(self) -> Condition:
        done = self.phase is Phase.SUCCEEDED
        ended = self.phase in TERMINAL
        return Condition(
            type="Succeeded",
            status="True" if done else "False" if ended else "Unknown",
            reason=self.reason or self.phase.capitalize(),
            message=self.message or "",
            last_transition_time=self.finished_at,
        )

    def _pausing(self) -> list[Condition]:
        if not self.paused or self.phase in TERMINAL:
            return []
        running = self.phase is Phase.RUNNING
        return [
            Condition(
                type="Paused",
                status="False" if running else "True",
                reason="CheckpointPending" if running else "Asked",
                message="The worker writes a checkpoint." if running else "Waits to be resumed.",
                last_transition_time=None,
            )
        ]

    def _cancelling(self) -> list[Condition]:
        if not self.cancel_requested:
            return []
        return [
            Condition(
                type="CancelRequested",
                status="True",
                reason="Asked",
                message="" if self.phase in TERMINAL else "The worker ends the attempt.",
                last_transition_time=self.finished_at,
            )
        ]


class JobDetailBody(JobBody):
    spec: dict[str, Any] = Field(description="Resolved; what the worker runs")


class EventBody(Body):
    number: int = Field(description="Counts from 1 without a gap within the job")
    attempt: int | None
    type: str
    data: dict[str, Any]
    at: datetime


class EventsBody(Body):
    items: list[EventBody]
    next_after: int = Field(description="Pass it as `?after=` for what follows")
    ended: bool = Field(description="The job is over and no event follows")


class MetricBody(Body):
    key: str
    step: int
    value: float
    at: datetime


class ArtifactBody(Body):
    path: str
    sha256: str
    size: int = Field(description="bytes")
    step: int | None = Field(description="Set on the files of a checkpoint")
    attempt: int
    created_at: datetime


class AttemptBody(Body):
    number: int
    worker: str
    started_at: datetime
    ended_at: datetime | None
    ended_as: str | None = Field(description="`succeeded`, `cancelled` or the kind of the failure")
    exit_status: int | None
    message: str | None


class CheckpointBody(Body):
    step: int
    files: list[ArtifactBody]

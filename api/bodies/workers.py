"""Workers and queues, as answers."""

from datetime import datetime
from uuid import UUID

from pydantic import Field

from api.bodies.base import Body
from worker.ledger.workers import Drain


class WorkerBody(Body):
    name: str
    version: str
    live: bool = Field(description="It was heard of in the last half minute")
    drain: Drain | None = Field(description="It claims nothing more")
    queues: list[str]
    labels: list[str]
    cpu_slots: int
    cpu_slots_free: int
    gpus: int
    gpus_free: int
    memory_bytes: int | None
    running: list[UUID] = Field(description="Jobs whose lease it holds")
    started_at: datetime
    seen_at: datetime


class QueueBody(Body):
    name: str
    depth: int = Field(description="Queued jobs that may be claimed")
    paused: int = Field(description="Queued jobs that are paused")
    waiting: int = Field(description="Jobs whose inputs are not there yet")
    running: int
    oldest_wait_seconds: float | None = Field(description="Of the jobs that `depth` counts")
    workers: int = Field(description="Live ones that serve it and are not drained")
    cpu_slots: int
    gpus: int
    closed: bool = Field(description="Jobs come in and wait, none is claimed")
    reason: str | None
    closed_at: datetime | None

"""Tables of the service itself, beside those of the work: workers, queues, schedules and duties."""

from datetime import datetime

from sqlalchemy import ARRAY, BigInteger, Text, func
from sqlalchemy.orm import Mapped, mapped_column

from worker.ledger.tables import Base


class TickRow(Base):
    """A moment of a maintenance schedule: whoever inserts the row runs it, and nobody else does."""

    __tablename__ = "ticks"

    schedule: Mapped[str] = mapped_column(primary_key=True)
    fire_at: Mapped[datetime] = mapped_column(primary_key=True)
    worker: Mapped[str]
    started_at: Mapped[datetime] = mapped_column(server_default=func.now())
    ended_at: Mapped[datetime | None]
    error: Mapped[str | None]


class WorkerRow(Base):
    """What a worker process said of itself when it was last heard of."""

    __tablename__ = "workers"

    name: Mapped[str] = mapped_column(primary_key=True)
    version: Mapped[str]
    queues: Mapped[list[str]] = mapped_column(ARRAY(Text))
    labels: Mapped[list[str]] = mapped_column(ARRAY(Text))
    cpu_slots: Mapped[int]
    gpus: Mapped[int]
    memory_bytes: Mapped[int | None] = mapped_column(BigInteger)
    drain: Mapped[str | None]
    """A `Drain` that somebody asked for: it claims nothing more."""
    started_at: Mapped[datetime] = mapped_column(server_default=func.now())
    seen_at: Mapped[datetime] = mapped_column(server_default=func.now())


class ClosedQueueRow(Base):
    """A queue that is closed: jobs come in and wait, none is claimed. Open ones have no row."""

    __tablename__ = "closed_queues"

    name: Mapped[str] = mapped_column(primary_key=True)
    reason: Mapped[str]
    closed_at: Mapped[datetime] = mapped_column(server_default=func.now())


class DutyRow(Base):
    """Something that one process at a time does for all, such as copying metrics to MLflow."""

    __tablename__ = "duties"

    name: Mapped[str] = mapped_column(primary_key=True)
    holder: Mapped[str]
    until: Mapped[datetime]

"""Worker processes: what they offer, when they were last heard of, and draining them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Select, delete, func, select, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.orm import Session

from worker.ledger.errors import NotFound
from worker.ledger.service_tables import WorkerRow
from worker.ledger.states import Phase
from worker.ledger.tables import JobRow
from worker.ledger.transitions import wake
from worker.ledger.turns import is_in

LIVE: Final = timedelta(seconds=30)
"""A worker that was not heard of for so long is taken for gone: a few of its heartbeats."""

REMEMBERED: Final = timedelta(days=7)


class Drain(StrEnum):
    """What a drained worker, which claims nothing more, does with the jobs that it runs."""

    FINISH = "finish"
    EVICT = "evict"
    """They write a checkpoint and go back to the queue."""


@dataclass(frozen=True)
class Capacity:
    """All that a worker has, whatever of it is taken."""

    version: str
    queues: Sequence[str]
    labels: Sequence[str]
    cpu_slots: int
    gpus: int
    memory_bytes: int | None


@dataclass(frozen=True)
class WorkerView:
    name: str
    version: str
    live: bool
    drain: Drain | None
    queues: list[str]
    labels: list[str]
    cpu_slots: int
    gpus: int
    memory_bytes: int | None
    cpu_slots_free: int
    gpus_free: int
    running: list[UUID]
    """The jobs whose lease it holds."""
    started_at: datetime
    seen_at: datetime


def beat(session: Session, *, name: str, capacity: Capacity) -> Drain | None:
    """Says that the worker lives and what it has; the answer is what it shall do."""
    statement = upsert(WorkerRow).values(
        name=name,
        version=capacity.version,
        queues=list(capacity.queues),
        labels=list(capacity.labels),
        cpu_slots=capacity.cpu_slots,
        gpus=capacity.gpus,
        memory_bytes=capacity.memory_bytes,
    )
    new = statement.excluded
    said = ("version", "queues", "labels", "cpu_slots", "gpus", "memory_bytes")
    drain = session.scalar(
        statement.on_conflict_do_update(
            index_elements=[WorkerRow.name],
            set_={"seen_at": func.now(), **{column: new[column] for column in said}},
        ).returning(WorkerRow.drain)
    )
    return None if drain is None else Drain(drain)


def leave(session: Session, *, name: str) -> None:
    """The worker ends in order; and forget those that were not heard of for a week."""
    forgotten = WorkerRow.seen_at < func.now() - REMEMBERED
    session.execute(delete(WorkerRow).where((WorkerRow.name == name) | forgotten))


def list_workers(session: Session) -> list[WorkerView]:
    """The live ones first, by name."""
    rows = session.execute(_workers()).all()
    return [_view(session, row) for row in rows]


def get_worker(session: Session, name: str) -> WorkerView:
    """Raises NotFound."""
    row = session.execute(_workers().where(WorkerRow.name == name)).one_or_none()
    if row is None:
        raise NotFound(f"no worker {name!r}")
    return _view(session, row)


def drain_worker(session: Session, name: str, drain: Drain) -> WorkerView:
    """From here on it claims nothing, whether it has heard of it or not. Raises NotFound."""
    _set_drain(session, name, drain)
    return get_worker(session, name)


def undrain_worker(session: Session, name: str) -> WorkerView:
    """Raises NotFound."""
    queues = _set_drain(session, name, None)
    for queue in queues:
        wake(session, queue)
    return get_worker(session, name)


def is_live() -> Any:
    return WorkerRow.seen_at > func.now() - LIVE


def _set_drain(session: Session, name: str, drain: Drain | None) -> list[str]:
    queues = session.scalar(
        update(WorkerRow)
        .where(WorkerRow.name == name)
        .values(drain=drain)
        .returning(WorkerRow.queues)
        .execution_options(synchronize_session=False)
    )
    if queues is None:
        raise NotFound(f"no worker {name!r}")
    return queues


def _workers() -> Select[Any]:
    return (
        select(WorkerRow, is_live().label("live"))
        .order_by(is_live().desc(), WorkerRow.name)
        .execution_options(populate_existing=True)
    )


def _view(session: Session, row: Any) -> WorkerView:
    worker: WorkerRow = row.WorkerRow
    held = session.execute(
        select(JobRow.id, JobRow.gpus)
        .where(is_in(Phase.RUNNING), JobRow.worker == worker.name)
        .order_by(JobRow.started_at)
    ).all()
    return WorkerView(
        name=worker.name,
        version=worker.version,
        live=row.live,
        drain=None if worker.drain is None else Drain(worker.drain),
        queues=worker.queues,
        labels=worker.labels,
        cpu_slots=worker.cpu_slots,
        gpus=worker.gpus,
        memory_bytes=worker.memory_bytes,
        cpu_slots_free=max(0, worker.cpu_slots - sum(job.gpus == 0 for job in held)),
        gpus_free=max(0, worker.gpus - sum(job.gpus for job in held)),
        running=[job.id for job in held],
        started_at=worker.started_at,
        seen_at=worker.seen_at,
    )

"""Queues as operators see them, and closing one for maintenance."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Select, delete, func, or_, select
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.orm import Session

from worker.ledger.service_tables import ClosedQueueRow, WorkerRow
from worker.ledger.states import Phase
from worker.ledger.tables import JobRow
from worker.ledger.transitions import wake
from worker.ledger.turns import is_in
from worker.ledger.workers import is_live


@dataclass(frozen=True)
class QueueView:
    """``depth`` counts the queued jobs that a worker may take, ``paused`` the others."""

    name: str
    depth: int
    paused: int
    waiting: int
    running: int
    oldest_wait_seconds: float | None
    """Since the oldest of ``depth`` was queued."""
    workers: int
    """Live ones that serve it and are not drained."""
    cpu_slots: int
    gpus: int
    closed: bool
    reason: str | None
    closed_at: datetime | None


def list_queues(session: Session) -> list[QueueView]:
    """Every queue that has a job on its way, a live worker, or is closed; by name."""
    jobs = {row.queue: row for row in session.execute(_jobs())}
    served = {row.queue: row for row in session.execute(_served())}
    closed = {row.name: row for row in session.scalars(select(ClosedQueueRow))}
    return [
        _view(name, jobs.get(name), served.get(name), closed.get(name))
        for name in sorted({*jobs, *served, *closed})
    ]


def get_queue(session: Session, name: str) -> QueueView:
    """One that `list_queues` does not have is empty and open."""
    found = (queue for queue in list_queues(session) if queue.name == name)
    return next(found, _view(name, None, None, None))


def close_queue(session: Session, name: str, reason: str) -> QueueView:
    """Jobs come in and wait, those that run go on, none is claimed."""
    session.execute(
        upsert(ClosedQueueRow)
        .values(name=name, reason=reason)
        .on_conflict_do_update(index_elements=[ClosedQueueRow.name], set_={"reason": reason})
    )
    return get_queue(session, name)


def open_queue(session: Session, name: str) -> QueueView:
    """Lets workers claim again; an open one stays as it is."""
    session.execute(delete(ClosedQueueRow).where(ClosedQueueRow.name == name))
    wake(session, name)
    return get_queue(session, name)


def _jobs() -> Any:
    queued = is_in(Phase.QUEUED) & ~JobRow.paused
    waited = func.extract("epoch", func.now() - func.min(JobRow.queued_at).filter(queued))
    counts = {
        "depth": queued,
        "paused": is_in(Phase.QUEUED) & JobRow.paused,
        "waiting": is_in(Phase.WAITING),
        "running": is_in(Phase.RUNNING),
    }
    return (
        select(
            JobRow.queue,
            waited.label("waited"),
            *(func.count().filter(which).label(name) for name, which in counts.items()),
        )
        .where(or_(*(is_in(phase) for phase in (Phase.WAITING, Phase.QUEUED, Phase.RUNNING))))
        .group_by(JobRow.queue)
    )


def _served() -> Select[Any]:
    """What live workers offer to each queue; one that serves several counts in each."""
    queue = func.unnest(WorkerRow.queues).label("queue")
    offers = (
        select(queue, WorkerRow.cpu_slots, WorkerRow.gpus)
        .where(is_live(), WorkerRow.drain.is_(None))
        .subquery()
    )
    return select(
        offers.c.queue,
        func.count().label("workers"),
        func.sum(offers.c.cpu_slots).label("cpu_slots"),
        func.sum(offers.c.gpus).label("gpus"),
    ).group_by(offers.c.queue)


def _view(name: str, jobs: Any, served: Any, closed: ClosedQueueRow | None) -> QueueView:
    return QueueView(
        name=name,
        depth=jobs.depth if jobs else 0,
        paused=jobs.paused if jobs else 0,
        waiting=jobs.waiting if jobs else 0,
        running=jobs.running if jobs else 0,
        oldest_wait_seconds=float(jobs.waited) if jobs and jobs.depth else None,
        workers=served.workers if served else 0,
        cpu_slots=served.cpu_slots if served else 0,
        gpus=served.gpus if served else 0,
        closed=closed is not None,
        reason=closed.reason if closed else None,
        closed_at=closed.closed_at if closed else None,
    )

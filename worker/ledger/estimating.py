"""When a job may start and how long it may take, from what the last like jobs of its queue took.

Guesses for people: nothing is decided by them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from sqlalchemy import Integer, func, select
from sqlalchemy.orm import Session

from worker.ledger.queues import QueueView, list_queues
from worker.ledger.states import TERMINAL, Phase
from worker.ledger.tables import JobRow
from worker.ledger.turns import is_in

SAMPLE: Final = 20
"""So many of the last jobs of a kind are looked at."""

_STEPS: Final = JobRow.spec["train"]["steps"].astext.cast(Integer)


@dataclass(frozen=True)
class Estimate:
    """Seconds; None where nothing is known."""

    start: float | None
    """Until a worker takes it; only of a queued job."""
    left: float | None
    """Until its end; of a job that waits for its inputs: once they are there."""


@dataclass(frozen=True)
class _Pace:
    """What the last jobs of one kind took on average."""

    seconds: float
    seconds_a_step: float | None


def estimates(
    session: Session, rows: Sequence[JobRow], ahead: Mapping[UUID, int]
) -> dict[UUID, Estimate]:
    """Of the rows that have not ended. ``ahead``: how many have their turn before each."""
    live = [row for row in rows if row.phase not in TERMINAL]
    if not live:
        return {}
    paces = {
        (queue, kind): _pace(session, queue, kind)
        for queue, kind in {(row.queue, row.kind) for row in live}
    }
    queues = {queue.name: queue for queue in list_queues(session)}
    return {
        row.id: _estimate(row, ahead.get(row.id), queues.get(row.queue), paces[row.queue, row.kind])
        for row in live
    }


def _estimate(
    row: JobRow, ahead: int | None, queue: QueueView | None, pace: _Pace | None
) -> Estimate:
    run = _run(row, pace)
    if row.phase != Phase.QUEUED:
        return Estimate(start=None, left=run)
    start = _start(row, ahead, queue, pace)
    return Estimate(start, left=None if start is None or run is None else start + run)


def _run(row: JobRow, pace: _Pace | None) -> float | None:
    if row.progress is not None and row.progress["remaining_seconds"] is not None:
        said: float = row.progress["remaining_seconds"]
        return said
    if pace is None or pace.seconds_a_step is None:
        return None if pace is None else pace.seconds
    steps: int = row.spec["train"]["steps"] - (row.checkpoint_step or 0)
    return pace.seconds_a_step * max(0, steps)


def _start(
    row: JobRow, ahead: int | None, queue: QueueView | None, pace: _Pace | None
) -> float | None:
    """0 where a slot is free; else each slot of the queue takes its part of the jobs ahead."""
    if ahead is None or queue is None or queue.closed:
        return None
    slots = queue.gpus if row.gpus else queue.cpu_slots
    if slots == 0:
        return None
    behind = ahead + 1 - max(0, slots - queue.running)
    if behind <= 0:
        return 0.0
    return None if pace is None else pace.seconds * behind / slots


def _pace(session: Session, queue: str, kind: str) -> _Pace | None:
    seconds = func.extract("epoch", JobRow.finished_at - JobRow.started_at)
    last = (
        select(seconds.label("seconds"), _STEPS.label("steps"))
        .where(is_in(Phase.SUCCEEDED), JobRow.queue == queue, JobRow.kind == kind)
        .order_by(JobRow.finished_at.desc())
        .limit(SAMPLE)
        .subquery()
    )
    mean, total, steps = session.execute(
        select(func.avg(last.c.seconds), func.sum(last.c.seconds), func.sum(last.c.steps))
    ).one()
    if mean is None:
        return None
    return _Pace(float(mean), float(total) / steps if steps else None)

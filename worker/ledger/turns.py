"""Whose turn it is: owners take turns, and among an owner's jobs priority and waiting decide.

A freed slot goes to the owner who holds the fewest of that queue, so nobody's thousand jobs keep
another's one waiting. Among the jobs of one owner the order is that of `turn_at`, the time of
queueing moved forward by the priority: a point is worth `POINT` of waiting, so no job starves. The
same decides between owners who hold equally much.
"""

from collections.abc import Collection, Sequence
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

from sqlalchemy import (
    ARRAY,
    CTE,
    ColumnElement,
    Interval,
    Select,
    Text,
    and_,
    cast,
    func,
    literal,
    select,
    true,
)
from sqlalchemy.orm import Session, aliased

from worker.ledger.resources import Offer, fits, suits
from worker.ledger.service_tables import ClosedQueueRow, WorkerRow
from worker.ledger.states import Phase
from worker.ledger.tables import JobRow

POINT: Final = timedelta(minutes=10)
"""What a point of priority is worth in waiting."""

PATIENCE: Final = timedelta(minutes=10)
"""A job for several GPUs that is overdue by so much is waited for with GPUs that are free."""


def turn_at(queued_at: Any, priority: Any) -> Any:
    """The key of the order, as an expression. A job that goes on keeps the place it had."""
    seconds = priority * POINT.total_seconds()
    return queued_at - func.make_interval(0, 0, 0, 0, 0, 0, seconds, type_=Interval())


def next_job(
    session: Session, *, worker: str, queues: Collection[str], offer: Offer
) -> JobRow | None:
    """The locked row of the job whose turn it is on ``worker``; None if there is none for it.

    Rows that other claims hold are skipped, so two workers never wait for each other.
    """
    if offer.empty:
        return None
    for line in session.execute(_lines(worker, queues, offer)).all():
        job = session.scalar(
            select(JobRow)
            .where(JobRow.queue == line.queue, JobRow.owner == line.owner, *_may_start(offer))
            .order_by(JobRow.turn_at, JobRow.id)
            .limit(1)
            .with_for_update(key_share=True, skip_locked=True, of=JobRow)
            .execution_options(populate_existing=True)
        )
        if job is not None:
            return job
    return None


def is_in(phase: Phase, job: Any = JobRow) -> ColumnElement[bool]:
    """Written out in the statement: only so do prepared ones find the partial indexes."""
    equal: ColumnElement[bool] = job.phase == literal(str(phase), literal_execute=True)
    return equal


def jobs_ahead(session: Session, queued: Sequence[JobRow]) -> dict[UUID, int]:
    """How many jobs of its queue have their turn before each of ``queued``, paused ones left out.

    Each further job of an owner comes after all that would then hold less: the order that
    `next_job` keeps while nothing ends and nothing comes.
    """
    if not queued:
        return {}
    held = _held()
    before = func.sum(_slots(JobRow)).over(
        partition_by=(JobRow.queue, JobRow.owner),
        order_by=(JobRow.turn_at, JobRow.id),
        rows=(None, -1),
    )
    holding = func.coalesce(held.c.slots, 0) + func.coalesce(before, 0)
    waiting = (
        select(JobRow.id, JobRow.queue, JobRow.turn_at, holding.label("holding"))
        .outerjoin(held, and_(held.c.queue == JobRow.queue, held.c.owner == JobRow.owner))
        .where(is_in(Phase.QUEUED), ~JobRow.paused, JobRow.queue.in_({row.queue for row in queued}))
        .subquery()
    )
    rank = func.row_number().over(
        partition_by=waiting.c.queue,
        order_by=(waiting.c.holding, waiting.c.turn_at, waiting.c.id),
    )
    ranked = select(waiting.c.id, (rank - 1).label("ahead")).subquery()
    rows = session.execute(select(ranked).where(ranked.c.id.in_([row.id for row in queued])))
    return {row.id: row.ahead for row in rows}


def _lines(worker: str, queues: Collection[str], offer: Offer) -> Select[str, str]:
    """Queue and owner of jobs that may start, whoever holds least first."""
    owners = _owners(worker, queues)
    held = _held()
    slots = func.coalesce(held.c.slots, 0)
    head = (
        select(JobRow.turn_at)
        .where(JobRow.queue == owners.c.queue, JobRow.owner == owners.c.owner, *_may_start(offer))
        .order_by(JobRow.turn_at, JobRow.id)
        .limit(1)
        .lateral("head")
    )
    return (
        select(owners.c.queue, owners.c.owner)
        .join(head, true())
        .outerjoin(held, and_(held.c.queue == owners.c.queue, held.c.owner == owners.c.owner))
        .order_by(slots, head.c.turn_at)
    )


def _owners(worker: str, queues: Collection[str]) -> CTE:
    """Who has jobs in the open queues: one step in the index for each, however many jobs."""
    names = func.unnest(cast(list(queues), ARRAY(Text)))
    served = names.table_valued("name", name="served").render_derived()
    closed = select(ClosedQueueRow.name).where(ClosedQueueRow.name == served.c.name)
    draining = select(WorkerRow.name).where(WorkerRow.name == worker, WorkerRow.drain.is_not(None))
    owners = (
        select(served.c.name.label("queue"), _next_owner(served.c.name, literal("")).label("owner"))
        .where(~closed.exists(), ~draining.exists())
        .cte("owners", recursive=True)
    )
    return owners.union_all(
        select(owners.c.queue, _next_owner(owners.c.queue, owners.c.owner)).where(
            owners.c.owner.is_not(None)
        )
    )


def _next_owner(queue: Any, after: Any) -> Any:
    return (
        select(func.min(JobRow.owner))
        .where(is_in(Phase.QUEUED), JobRow.queue == queue, JobRow.owner > after)
        .scalar_subquery()
    )


def _may_start(offer: Offer) -> list[ColumnElement[bool]]:
    guards = [is_in(Phase.QUEUED), ~JobRow.paused, JobRow.not_before <= func.now(), *fits(offer)]
    if offer.gpus < offer.gpus_in_all:
        guards.append((JobRow.gpus == 0) | ~_keeps_gpus_free(offer))
    return guards


def _keeps_gpus_free(offer: Offer) -> ColumnElement[bool]:
    """Whether a larger job before this one has been overdue for too long to be passed over."""
    larger = aliased(JobRow)
    return (
        select(larger.id)
        .where(
            is_in(Phase.QUEUED, larger),
            larger.queue == JobRow.queue,
            larger.gpus > offer.gpus,
            larger.gpus <= offer.gpus_in_all,
            ~larger.paused,
            larger.turn_at < JobRow.turn_at,
            larger.turn_at < func.now() - PATIENCE,
            *suits(larger, offer),
        )
        .exists()
    )


def _held() -> CTE:
    """Slots that each owner holds in each queue; a GPU is one."""
    return (
        select(JobRow.queue, JobRow.owner, func.sum(_slots(JobRow)).label("slots"))
        .where(is_in(Phase.RUNNING))
        .group_by(JobRow.queue, JobRow.owner)
        .cte("held")
    )


def _slots(job: Any) -> Any:
    return func.greatest(job.gpus, 1)

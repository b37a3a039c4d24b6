"""The row that stands for a piece of work: one that exists, or a new one.

Whoever places several goes through them in the one order in which jobs are locked.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import ColumnElement, func, insert, select, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.orm import Session

from worker.ledger.locking import locked
from worker.ledger.pausing import release
from worker.ledger.resources import Needs
from worker.ledger.states import TERMINAL, Phase
from worker.ledger.tables import EventRow, JobInputRow, JobRow
from worker.ledger.transitions import wake
from worker.ledger.turns import turn_at


@dataclass(frozen=True)
class Placed:
    """The row; ``created``: for this, and it did not exist before."""

    id: UUID
    phase: Phase
    created: bool

    @property
    def ready(self) -> bool:
        return self.phase is Phase.QUEUED


@dataclass(frozen=True)
class Work:
    """What a row is made of. ``order`` keeps jobs apart that are queued in one transaction."""

    kind: str
    digest: str
    depth: int
    spec: dict[str, Any]
    revision_id: UUID
    priority: int
    needs: Needs
    sources: Mapping[str, Placed]
    """The job that makes the model folder at this path of the run directory."""
    versions: Mapping[str, UUID]
    """The model version that lies at this path."""
    order: int = 0
    retry_of: UUID | None = None
    checkpoint_step: int | None = None
    told: dict[str, Any] = field(default_factory=dict)
    """For the row's first event."""


def place(session: Session, owner: str, work: Work, *, force: bool = False) -> Placed:
    """The live row of this digest if it can be shared, else a new one, to be told by `announce`.

    ``force`` makes a new one whatever there is. A shared job is as urgent as the most urgent who
    needs it, and no longer paused. Each further round means that another transaction got through in
    between.
    """
    if force:
        _supersede(session, _live(session, owner, work))
    while True:
        made = _insert(session, owner, work)
        if made is not None:
            return made
        live = _live(session, owner, work)
        if live is None:
            continue
        if not force and _serves(session, live, work):
            return _share(session, live, work)
        _supersede(session, live)


def announce(session: Session, placed: Iterable[tuple[Placed, Work]]) -> None:
    """The first event of every row that was made, and a call for those who could run it."""
    made = {row.id: (row, work) for row, work in placed if row.created}
    if made:
        session.execute(
            insert(EventRow),
            [
                {
                    "job_id": id,
                    "number": 1,
                    "attempt": None,
                    "type": "job.submitted",
                    "data": {"phase": row.phase, **work.told},
                }
                for id, (row, work) in made.items()
            ],
        )
    for queue in sorted({work.needs.queue for row, work in made.values() if row.ready}):
        wake(session, queue)


def offered(owner: str) -> list[ColumnElement[bool]]:
    """Guards of the unique index `uq_jobs_live_digest`: at most one row for each digest."""
    return [
        JobRow.owner == owner,
        JobRow.phase.not_in([Phase.FAILED, Phase.CANCELLED]),
        ~JobRow.superseded,
    ]


def _insert(session: Session, owner: str, work: Work) -> Placed | None:
    ready = all(source.phase is Phase.SUCCEEDED for source in work.sources.values())
    phase = Phase.QUEUED if ready else Phase.WAITING
    # All of one plan are queued at one time; a microsecond apart they keep the plan's order.
    queued_at = func.now() + timedelta(microseconds=work.order)
    id = session.scalar(
        upsert(JobRow)
        .values(
            id=uuid4(),
            owner=owner,
            kind=work.kind,
            digest=work.digest,
            depth=work.depth,
            spec=work.spec,
            revision_id=work.revision_id,
            priority=work.priority,
            phase=phase,
            event_number=1,
            queued_at=queued_at if ready else None,
            turn_at=turn_at(queued_at, work.priority),
            retry_of=work.retry_of,
            checkpoint_step=work.checkpoint_step,
            **work.needs.columns(),
        )
        .on_conflict_do_nothing()
        .returning(JobRow.id)
    )
    if id is None:
        return None
    _insert_inputs(session, id, work)
    return Placed(id, phase, created=True)


def _insert_inputs(session: Session, id: UUID, work: Work) -> None:
    rows = [
        *(
            {"path": path, "source_job_id": source.id, "model_version_id": None}
            for path, source in work.sources.items()
        ),
        *(
            {"path": path, "source_job_id": None, "model_version_id": version}
            for path, version in work.versions.items()
        ),
    ]
    if rows:
        session.execute(insert(JobInputRow), [{"job_id": id, **row} for row in rows])


def _live(session: Session, owner: str, work: Work) -> JobRow | None:
    """Locked to the end of the transaction, so it cannot end or be cancelled meanwhile."""
    return session.scalar(locked().where(*offered(owner), JobRow.digest == work.digest))


def _serves(session: Session, live: JobRow, work: Work) -> bool:
    """A job that is being cancelled is not shared, nor one that waits for such a job."""
    if live.phase == Phase.WAITING:
        sources = session.scalars(
            select(JobInputRow.source_job_id).where(
                JobInputRow.job_id == live.id, JobInputRow.source_job_id.is_not(None)
            )
        )
        return set(sources) == {source.id for source in work.sources.values()}
    return live.phase in TERMINAL or not live.cancel_requested


def _share(session: Session, live: JobRow, work: Work) -> Placed:
    if live.phase not in TERMINAL:
        if live.priority < work.priority:
            _make_urgent(session, live, work.priority)
        if live.paused:
            release(session, live)
    return Placed(live.id, Phase(live.phase), created=False)


def _make_urgent(session: Session, live: JobRow, priority: int) -> None:
    queued_at = func.coalesce(JobRow.queued_at, func.now())
    session.execute(
        update(JobRow)
        .where(JobRow.id == live.id)
        .values(priority=priority, turn_at=turn_at(queued_at, priority))
        .execution_options(synchronize_session=False)
    )


def _supersede(session: Session, live: JobRow | None) -> None:
    if live is not None:
        session.execute(
            update(JobRow)
            .where(JobRow.id == live.id)
            .values(superseded=True)
            .execution_options(synchronize_session=False)
        )

"""When maintenance ran: each moment of a schedule belongs to whoever writes its row first.

The moments are whole multiples of the schedule's period since 1970 on the database's clock, so
all callers mean the same ones, whatever their own clocks say, and no time zone has a part in it.

What was missed, because nobody was there, is not made up for: only the newest moment is ever run.
Nor is a run whose process died with it done again; the next moment comes.
"""

from datetime import UTC, datetime, timedelta
from typing import Final

from sqlalchemy import delete, func, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.orm import Session

from worker.ledger.running import storable
from worker.ledger.service_tables import TickRow

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def begin(session: Session, *, schedule: str, every_seconds: float, worker: str) -> datetime | None:
    """The newest moment of ``schedule``, now the caller's to run; None when somebody has it."""
    period = timedelta(seconds=every_seconds)
    statement = (
        upsert(TickRow)
        .values(schedule=schedule, fire_at=func.date_bin(period, func.now(), _EPOCH), worker=worker)
        .on_conflict_do_nothing()
        .returning(TickRow.fire_at)
    )
    return session.scalar(statement)


def end(session: Session, *, schedule: str, fire_at: datetime, error: str | None = None) -> None:
    session.execute(
        update(TickRow)
        .where(TickRow.schedule == schedule, TickRow.fire_at == fire_at)
        .values(ended_at=func.now(), error=error and storable(error))
        .execution_options(synchronize_session=False)
    )


def forget(session: Session, *, older_than: timedelta) -> None:
    """Drop rows of moments long past; ``older_than`` must exceed the longest period."""
    session.execute(
        delete(TickRow)
        .where(TickRow.fire_at < func.now() - older_than)
        .execution_options(synchronize_session=False)
    )

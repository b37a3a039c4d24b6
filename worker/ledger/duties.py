"""What one process at a time does for all: held for a while, renewed, and free once that has passed.

A lock of the database would do while its holder answers; of a host that was stopped or cut off the
database keeps it, for hours.
"""

from datetime import timedelta

from sqlalchemy import delete, func
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.orm import Session

from worker.ledger.service_tables import DutyRow


def take_duty(session: Session, name: str, *, holder: str, seconds: float) -> bool:
    """Whether ``holder`` has the duty for another ``seconds``; saying it again renews it."""
    until = func.now() + timedelta(seconds=seconds)
    statement = upsert(DutyRow).values(name=name, holder=holder, until=until)
    taken = session.scalar(
        statement.on_conflict_do_update(
            index_elements=[DutyRow.name],
            set_={"holder": holder, "until": until},
            where=(DutyRow.holder == holder) | (DutyRow.until < func.now()),
        ).returning(DutyRow.holder)
    )
    return taken is not None


def leave_duty(session: Session, name: str, *, holder: str) -> None:
    """Somebody else may have it at once."""
    session.execute(delete(DutyRow).where(DutyRow.name == name, DutyRow.holder == holder))

"""What code an attempt was run by."""

from collections.abc import Mapping
from uuid import UUID

from sqlalchemy import update
from sqlalchemy.orm import Session

from worker.ledger.tables import AttemptRow


def note_build(session: Session, *, job_id: UUID, attempt: int, build: Mapping[str, str]) -> None:
    """In the transaction that claims the job. ``build``: see `worker.build`."""
    session.execute(
        update(AttemptRow)
        .where(AttemptRow.job_id == job_id, AttemptRow.number == attempt)
        .values(build=dict(build))
        .execution_options(synchronize_session=False)
    )

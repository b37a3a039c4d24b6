"""Names that move from version to version of a model: ``candidate``, ``champion`` and own ones."""

import re
from collections.abc import Collection
from typing import Final
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.orm import Session

from worker.ledger.errors import InvalidReference, NotFound
from worker.ledger.tables import ModelAliasRow, ModelRow, ModelVersionRow

CANDIDATE: Final = "candidate"
"""Moves by itself: it is on the newest version."""
LATEST: Final = "latest"
_ALIAS = re.compile(r"[a-z][a-z0-9_-]{0,62}")
_RESERVED = re.compile(r"latest|v[0-9]+")


def move_alias(session: Session, *, owner: str, model: str, alias: str, number: int) -> None:
    """Puts ``alias`` on version ``number``. Raises NotFound, InvalidReference (``alias``)."""
    if _ALIAS.fullmatch(alias) is None or _RESERVED.fullmatch(alias) is not None:
        expected = "lower-case letters, digits, `_` and `-`; neither `latest` nor like `v3`"
        raise InvalidReference(f"{alias!r} is no alias: {expected}", field="alias")
    model_id = session.scalar(
        select(ModelRow.id)
        .join(ModelVersionRow, ModelVersionRow.model_id == ModelRow.id)
        .where(ModelRow.owner == owner, ModelRow.name == model, ModelVersionRow.number == number)
    )
    if model_id is None:
        raise NotFound(f"no model {model!r} with a version {number}")
    point_alias(session, model_id=model_id, alias=alias, number=number)


def point_alias(session: Session, *, model_id: UUID, alias: str, number: int) -> None:
    """As `move_alias`, of a version that the caller knows to be there."""
    session.execute(
        upsert(ModelAliasRow)
        .values(model_id=model_id, alias=alias, number=number)
        .on_conflict_do_update(
            index_elements=[ModelAliasRow.model_id, ModelAliasRow.alias],
            set_={"number": number, "moved_at": func.now()},
            where=ModelAliasRow.number != number,
        )
    )


def aliases_of(session: Session, model_ids: Collection[UUID]) -> dict[UUID, dict[str, int]]:
    """The version number under each alias, by model; a model without aliases is left out."""
    rows = session.execute(
        select(ModelAliasRow.model_id, ModelAliasRow.alias, ModelAliasRow.number)
        .where(ModelAliasRow.model_id.in_(model_ids))
        .order_by(ModelAliasRow.model_id, ModelAliasRow.alias)
    )
    found: dict[UUID, dict[str, int]] = {}
    for model_id, alias, number in rows:
        found.setdefault(model_id, {})[alias] = number
    return found

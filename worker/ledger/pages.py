"""Pages of a list, newest first, continued by an opaque cursor rather than an offset."""

import base64
import binascii
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, TypeVar
from uuid import UUID

from sqlalchemy import ColumnElement, Select, tuple_
from sqlalchemy.orm import InstrumentedAttribute

from worker.ledger.errors import InvalidReference

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class Page(Generic[T]):
    """``next_cursor`` is None on the last page."""

    items: list[T]
    next_cursor: str | None


def newest_first(
    query: Select[Any],
    *,
    created_at: InstrumentedAttribute[datetime],
    id: InstrumentedAttribute[UUID],
    cursor: str | None,
    limit: int,
) -> Select[Any]:
    """``query`` from behind the cursor on, with one row more than the page: does it go on?"""
    if cursor is not None:
        query = query.where(_before(created_at, id, cursor))
    return query.order_by(created_at.desc(), id.desc()).limit(limit + 1)


def cut(
    rows: Sequence[R], limit: int, position: Callable[[R], tuple[datetime, UUID]]
) -> tuple[list[R], str | None]:
    """The rows of the page and the cursor behind the last of them."""
    if len(rows) <= limit:
        return list(rows), None
    page = list(rows[:limit])
    return page, _encode(*position(page[-1]))


def _before(
    created_at: InstrumentedAttribute[datetime], id: InstrumentedAttribute[UUID], cursor: str
) -> ColumnElement[bool]:
    moment, last = _decode(cursor)
    return tuple_(created_at, id) < tuple_(moment, last)


def _encode(created_at: datetime, id: UUID) -> str:
    text = json.dumps([created_at.isoformat(), str(id)])
    return base64.urlsafe_b64encode(text.encode()).decode()


def _decode(cursor: str) -> tuple[datetime, UUID]:
    try:
        moment, id = json.loads(
            base64.b64decode(cursor.encode("ascii"), altchars=b"-_", validate=True)
        )
        created_at = datetime.fromisoformat(moment)
        if created_at.tzinfo is None:
            raise ValueError("a cursor's time has a zone")
        return created_at, UUID(id)
    except (ValueError, TypeError, AttributeError, binascii.Error, RecursionError) as error:
        raise InvalidReference("not a cursor of this list", field="cursor") from error

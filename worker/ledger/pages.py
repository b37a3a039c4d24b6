"""Pages of a list, newest first, continued by an opaque cursor rather than an offset."""

import base64
import binascii
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
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
    created_at, id = position(page[-1])
    return page, encode([created_at.isoformat(), str(id)])


def encode(position: list[Any]) -> str:
    """A cursor that holds JSON values."""
    return base64.urlsafe_b64encode(json.dumps(position).encode()).decode()


def decode(cursor: str) -> Any:
    """What `encode` was given, or any other JSON value: clients write cursors as they like.

    Raises InvalidReference where it is none.
    """
    with reading_cursor():
        return json.loads(base64.b64decode(cursor.encode("ascii"), altchars=b"-_", validate=True))


@contextmanager
def reading_cursor() -> Iterator[None]:
    """InvalidReference for whatever goes wrong when a cursor is taken apart."""
    try:
        yield
    except (ValueError, TypeError, AttributeError, binascii.Error, RecursionError) as error:
        raise InvalidReference("not a cursor of this list", field="cursor") from error


def _before(
    created_at: InstrumentedAttribute[datetime], id: InstrumentedAttribute[UUID], cursor: str
) -> ColumnElement[bool]:
    with reading_cursor():
        moment, last = decode(cursor)
        time = datetime.fromisoformat(moment)
        if time.tzinfo is None:
            raise ValueError("a cursor's time has a zone")
        return tuple_(created_at, id) < tuple_(time, UUID(last))

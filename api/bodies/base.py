"""The base of every answer, and pages of answers."""

from typing import Generic, TypeVar

from pydantic import BaseModel, ConfigDict

T = TypeVar("T")


class Body(BaseModel):
    model_config = ConfigDict(from_attributes=True, frozen=True)


class PageBody(Body, Generic[T]):
    """Newest first. Pass `next_cursor` as `?cursor=` for what follows; null ends the list."""

    items: list[T]
    next_cursor: str | None


class ListBody(Body, Generic[T]):
    """A list that is short by nature and comes whole."""

    items: list[T]

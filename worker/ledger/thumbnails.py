"""Small pictures of a dataset's samples, kept with the revision they show."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import Select, select, tuple_
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.orm import Session

from worker.ledger.errors import NotFound
from worker.ledger.files import FileRef
from worker.ledger.pages import Page, decode, encode, reading_cursor
from worker.ledger.tables import DatasetRow, RevisionRow, ThumbnailRow


@dataclass(frozen=True)
class Thumbnail:
    """``place`` counts the samples of ``split`` in the manifest, ``sample`` is the id there."""

    split: str
    place: int
    sample: str
    file: FileRef


def keep(session: Session, *, revision_id: UUID, thumbnails: Sequence[Thumbnail]) -> None:
    """Pictures that the revision has already stay: equal files look alike."""
    rows = [
        {
            "revision_id": revision_id,
            "split": thumbnail.split,
            "place": thumbnail.place,
            "sample": thumbnail.sample,
            **thumbnail.file.to_json(),
        }
        for thumbnail in thumbnails
    ]
    if rows:
        session.execute(upsert(ThumbnailRow).values(rows).on_conflict_do_nothing())


def list_thumbnails(
    session: Session,
    *,
    owner: str,
    dataset: str,
    number: int,
    split: str | None = None,
    cursor: str | None = None,
    limit: int = 50,
) -> Page[Thumbnail]:
    """In the order of splits and samples; none for a revision from before there were any.

    Raises NotFound without such a revision, InvalidReference for a malformed cursor.
    """
    query = _thumbnails(_revision_id(session, owner, dataset, number))
    if split is not None:
        query = query.where(ThumbnailRow.split == split)
    if cursor is not None:
        query = query.where(tuple_(ThumbnailRow.split, ThumbnailRow.place) > _position(cursor))
    found = [_thumbnail(row) for row in session.scalars(query.limit(limit + 1))]
    if len(found) <= limit:
        return Page(found, None)
    return Page(found[:limit], encode([found[limit - 1].split, found[limit - 1].place]))


def get_thumbnail(
    session: Session, *, owner: str, dataset: str, number: int, split: str, sample: str
) -> Thumbnail:
    """Raises NotFound."""
    query = _thumbnails(_revision_id(session, owner, dataset, number)).where(
        ThumbnailRow.split == split, ThumbnailRow.sample == sample
    )
    row = session.scalars(query.limit(1)).one_or_none()
    if row is None:
        raise NotFound(f"{dataset}@{number} has no thumbnail of {sample[:200]!r} in {split}")
    return _thumbnail(row)


def _revision_id(session: Session, owner: str, dataset: str, number: int) -> UUID:
    found = session.scalar(
        select(RevisionRow.id)
        .join(DatasetRow, DatasetRow.id == RevisionRow.dataset_id)
        .where(DatasetRow.owner == owner, DatasetRow.name == dataset, RevisionRow.number == number)
    )
    if found is None:
        raise NotFound(f"no dataset '{dataset}@{number}'")
    return found


def _thumbnails(revision_id: UUID) -> Select[ThumbnailRow]:
    return (
        select(ThumbnailRow)
        .where(ThumbnailRow.revision_id == revision_id)
        .order_by(ThumbnailRow.split, ThumbnailRow.place)
    )


def _position(cursor: str) -> tuple[str, int]:
    with reading_cursor():
        split, place = decode(cursor)
        if not (isinstance(split, str) and isinstance(place, int)) or abs(place) >= 2**31:
            raise ValueError("a split and a place")
        return split, place


def _thumbnail(row: ThumbnailRow) -> Thumbnail:
    return Thumbnail(
        split=row.split,
        place=row.place,
        sample=row.sample,
        file=FileRef(sha256=row.sha256, size=row.size),
    )

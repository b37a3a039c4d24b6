"""Datasets and their immutable revisions."""

import re
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVarTuple
from uuid import UUID

from sqlalchemy import Row, Select, func, insert, select
from sqlalchemy.dialects.postgresql import distinct_on
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.orm import Session

from kdcore.spec import DatasetManifest, DatasetSource
from worker.ledger.errors import InvalidReference, NotFound
from worker.ledger.pages import Page, cut, newest_first
from worker.ledger.tables import DatasetRow, RevisionRow

_REFERENCE = re.compile(
    r"(?P<name>[a-z0-9][a-z0-9._-]{0,62})(@(latest|(?P<number>[1-9][0-9]{0,8})))?"
)

Ts = TypeVarTuple("Ts")


@dataclass(frozen=True)
class Revision:
    """``dataset`` is the name, ``number`` counts from 1."""

    id: UUID
    dataset: str
    number: int
    fingerprint: str
    source: DatasetSource
    manifest: DatasetManifest
    created_at: datetime


@dataclass(frozen=True)
class DatasetSummary:
    id: UUID
    name: str
    revisions: int
    latest: int
    fingerprint: str
    """Of the latest revision."""
    created_at: datetime


@dataclass(frozen=True)
class RevisionKey:
    """What a submission needs to know of a revision, without its manifest."""

    id: UUID
    number: int
    fingerprint: str


def register(
    session: Session, *, owner: str, source: DatasetSource, manifest: DatasetManifest
) -> tuple[Revision, bool]:
    """The revision with this content, and whether it is new.

    The dataset is made with its first revision. Equal content gives the revision that exists.
    """
    session.execute(
        upsert(DatasetRow).values(owner=owner, name=source.name).on_conflict_do_nothing()
    )
    # The lock hands out revision numbers without a gap and makes equal content meet here.
    dataset_id = session.scalars(
        select(DatasetRow.id)
        .where(DatasetRow.owner == owner, DatasetRow.name == source.name)
        .with_for_update(key_share=True)
    ).one()
    fingerprint = manifest.fingerprint()
    known = session.execute(
        _revisions().where(
            RevisionRow.dataset_id == dataset_id, RevisionRow.fingerprint == fingerprint
        )
    ).one_or_none()
    if known is not None:
        return _revision(known), False
    newest = session.scalar(
        select(func.max(RevisionRow.number)).where(RevisionRow.dataset_id == dataset_id)
    )
    session.execute(
        insert(RevisionRow).values(
            dataset_id=dataset_id,
            number=(newest or 0) + 1,
            fingerprint=fingerprint,
            source=source.to_json(),
            manifest=manifest.to_json(),
        )
    )
    made = session.execute(
        _revisions().where(
            RevisionRow.dataset_id == dataset_id, RevisionRow.fingerprint == fingerprint
        )
    ).one()
    return _revision(made), True


def get_revision(session: Session, *, owner: str, ref: str) -> Revision:
    """``name``, ``name@latest`` or ``name@3``. Raises NotFound."""
    row = session.execute(_referenced(_revisions(), owner, ref)).one_or_none()
    if row is None:
        raise NotFound(f"no dataset {ref!r}")
    return _revision(row)


def find_revision(session: Session, *, owner: str, ref: str, field: str) -> RevisionKey:
    """As `get_revision`, for a request whose ``field`` holds the reference: InvalidReference."""
    query = select(RevisionRow.id, RevisionRow.number, RevisionRow.fingerprint).join(
        DatasetRow, DatasetRow.id == RevisionRow.dataset_id
    )
    try:
        row = session.execute(_referenced(query, owner, ref)).one_or_none()
    except NotFound:
        row = None
    if row is None:
        raise InvalidReference(f"no dataset {ref!r}", field=field)
    id, number, fingerprint = row
    return RevisionKey(id, number, fingerprint)


def list_datasets(
    session: Session, *, owner: str, cursor: str | None = None, limit: int = 50
) -> Page[DatasetSummary]:
    """Newest first. Raises InvalidReference for a malformed cursor."""
    query = newest_first(
        select(DatasetRow).where(DatasetRow.owner == owner),
        created_at=DatasetRow.created_at,
        id=DatasetRow.id,
        cursor=cursor,
        limit=limit,
    )
    rows, following = cut(session.scalars(query).all(), limit, lambda row: (row.created_at, row.id))
    newest = _newest(session, [row.id for row in rows])
    return Page([_summary(row, *newest[row.id]) for row in rows], following)


def list_revisions(session: Session, *, owner: str, name: str) -> list[Revision]:
    """Newest first. Raises NotFound."""
    rows = session.execute(
        _revisions()
        .where(DatasetRow.owner == owner, DatasetRow.name == name)
        .order_by(RevisionRow.number.desc())
    ).all()
    if not rows:
        raise NotFound(f"no dataset {name!r}")
    return [_revision(row) for row in rows]


def _revisions() -> Select[RevisionRow, str]:
    return select(RevisionRow, DatasetRow.name).join(
        DatasetRow, DatasetRow.id == RevisionRow.dataset_id
    )


def _referenced(query: Select[*Ts], owner: str, ref: str) -> Select[*Ts]:
    match = _REFERENCE.fullmatch(ref)
    if match is None:
        raise NotFound(f"{ref!r} is not the name of a dataset")
    query = query.where(DatasetRow.owner == owner, DatasetRow.name == match["name"])
    if match["number"] is not None:
        return query.where(RevisionRow.number == int(match["number"]))
    return query.order_by(RevisionRow.number.desc()).limit(1)


def _revision(row: Row[RevisionRow, str]) -> Revision:
    revision, name = row
    return Revision(
        id=revision.id,
        dataset=name,
        number=revision.number,
        fingerprint=revision.fingerprint,
        source=DatasetSource.model_validate(revision.source),
        manifest=DatasetManifest.model_validate(revision.manifest),
        created_at=revision.created_at,
    )


def _newest(session: Session, ids: list[UUID]) -> dict[UUID, tuple[int, int, str]]:
    """Number of revisions, newest number and its fingerprint, for each dataset."""
    ranked = session.execute(
        select(
            RevisionRow.dataset_id,
            func.count().over(partition_by=RevisionRow.dataset_id),
            RevisionRow.number,
            RevisionRow.fingerprint,
        )
        .where(RevisionRow.dataset_id.in_(ids))
        .ext(distinct_on(RevisionRow.dataset_id))
        .order_by(RevisionRow.dataset_id, RevisionRow.number.desc())
    )
    return {id: (count, number, fingerprint) for id, count, number, fingerprint in ranked}


def _summary(row: DatasetRow, revisions: int, latest: int, fingerprint: str) -> DatasetSummary:
    return DatasetSummary(
        id=row.id,
        name=row.name,
        revisions=revisions,
        latest=latest,
        fingerprint=fingerprint,
        created_at=row.created_at,
    )

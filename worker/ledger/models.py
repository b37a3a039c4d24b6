"""Models: what succeeded fits left behind, by name and version number."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Row, Select, func, insert, select
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.orm import Session

from kdcore.spec import digest
from worker.ledger.aliases import CANDIDATE, LATEST, aliases_of, point_alias
from worker.ledger.claiming import model_files
from worker.ledger.errors import InvalidReference, NotFound
from worker.ledger.files import FileRef
from worker.ledger.pages import Page, cut, newest_first
from worker.ledger.states import Phase
from worker.ledger.tables import (
    ExperimentJobRow,
    ExperimentRow,
    JobRow,
    ModelAliasRow,
    ModelRow,
    ModelVersionRow,
)

_REFERENCE = re.compile(
    r"models:/(?P<name>[a-z0-9][a-z0-9._-]{0,254})"
    r"(/(?P<number>[1-9][0-9]{0,8})|@(?P<alias>[a-z][a-z0-9_-]{0,62}))"
)
_SEED = re.compile(r"-[0-9]+$")


@dataclass(frozen=True)
class ModelVersion:
    """``files`` maps the names in the model folder to ``{"sha256", "size"}``."""

    id: UUID
    model: str
    number: int
    job_id: UUID
    digest: str
    files: dict[str, dict[str, Any]]
    metrics: dict[str, Any]
    created_at: datetime


@dataclass(frozen=True)
class ModelSummary:
    id: UUID
    name: str
    versions: int
    latest: int
    created_at: datetime


@dataclass(frozen=True)
class ModelDetail:
    """``versions`` are newest first; ``aliases`` are on version numbers."""

    id: UUID
    name: str
    created_at: datetime
    versions: list[ModelVersion]
    aliases: dict[str, int]


def resolve(session: Session, *, owner: str, ref: str, field: str | None = None) -> ModelVersion:
    """What ``models:/name/3``, ``models:/name@latest`` or ``models:/name@champion`` names.

    Raises InvalidReference.
    """
    match = _REFERENCE.fullmatch(ref)
    if match is None:
        expected = "write `models:/name/3`, `models:/name@latest` or `models:/name@champion`"
        raise InvalidReference(f"{ref!r} is not a model reference: {expected}", field=field)
    query = _versions().where(ModelRow.owner == owner, ModelRow.name == match["name"])
    if match["number"] is not None:
        query = query.where(ModelVersionRow.number == int(match["number"]))
    elif match["alias"] != LATEST:
        query = query.join(
            ModelAliasRow,
            (ModelAliasRow.model_id == ModelRow.id)
            & (ModelAliasRow.number == ModelVersionRow.number),
        ).where(ModelAliasRow.alias == match["alias"])
    row = session.execute(query.limit(1)).one_or_none()
    if row is None:
        raise InvalidReference(f"no model {ref!r}", field=field)
    return _version(row)


def list_models(
    session: Session, *, owner: str, cursor: str | None = None, limit: int = 50
) -> Page[ModelSummary]:
    """Newest first. Raises InvalidReference for a malformed cursor."""
    query = newest_first(
        select(ModelRow).where(ModelRow.owner == owner),
        created_at=ModelRow.created_at,
        id=ModelRow.id,
        cursor=cursor,
        limit=limit,
    )
    rows, following = cut(session.scalars(query).all(), limit, lambda row: (row.created_at, row.id))
    counts = session.execute(
        select(ModelVersionRow.model_id, func.count(), func.max(ModelVersionRow.number))
        .where(ModelVersionRow.model_id.in_([row.id for row in rows]))
        .group_by(ModelVersionRow.model_id)
    )
    versions = {id: (count, latest) for id, count, latest in counts}
    return Page(
        [ModelSummary(row.id, row.name, *versions[row.id], row.created_at) for row in rows],
        following,
    )


def get_model(session: Session, *, owner: str, name: str) -> ModelDetail:
    """Raises NotFound."""
    model = session.scalar(select(ModelRow).where(ModelRow.owner == owner, ModelRow.name == name))
    if model is None:
        raise NotFound(f"no model {name!r}")
    rows = session.execute(_versions().where(ModelRow.id == model.id)).all()
    return ModelDetail(
        id=model.id,
        name=model.name,
        created_at=model.created_at,
        versions=[_version(row) for row in rows],
        aliases=aliases_of(session, [model.id]).get(model.id, {}),
    )


def register_versions(session: Session, *, job_id: UUID, experiment_id: UUID | None = None) -> None:
    """Makes a version of a succeeded fit in the name of each experiment that needs it.

    With ``experiment_id`` only in the name of that one. A model gets at most one version of a job.
    """
    links = session.execute(_links(job_id, experiment_id)).all()
    if not links:
        return
    owner = links[0].owner
    # In the order of the names, so that two jobs that end at once do not wait for each other.
    names = sorted({model_name(link.name, link.key, link.role) for link in links})
    files = model_files(session, job_id)
    content = {
        "job_id": job_id,
        "digest": content_digest(files),
        "files": {name: file.to_json() for name, file in files.items()},
        "metrics": (links[0].result or {}).get("metrics", {}),
    }
    for name in names:
        _add_version(session, owner, name, content)


def content_digest(files: Mapping[str, FileRef]) -> str:
    """What a model folder is known by: the digest of its files' names and contents."""
    return digest({name: file.sha256 for name, file in files.items()})


def model_name(experiment: str, key: str, role: str | None) -> str:
    """``nuclei-distilled`` for ``distilled-0`` of ``nuclei``: seeds are versions of one model."""
    return f"{experiment}-{key if role == 'teacher' else _SEED.sub('', key)}"


def _add_version(session: Session, owner: str, name: str, content: dict[str, Any]) -> None:
    session.execute(upsert(ModelRow).values(owner=owner, name=name).on_conflict_do_nothing())
    # The lock hands out version numbers without a gap.
    model_id = session.scalars(
        select(ModelRow.id)
        .where(ModelRow.owner == owner, ModelRow.name == name)
        .with_for_update(key_share=True)
    ).one()
    known = select(ModelVersionRow.id).where(
        ModelVersionRow.model_id == model_id, ModelVersionRow.job_id == content["job_id"]
    )
    if session.scalar(known) is not None:
        return
    newest = session.scalar(
        select(func.max(ModelVersionRow.number)).where(ModelVersionRow.model_id == model_id)
    )
    number = (newest or 0) + 1
    session.execute(insert(ModelVersionRow).values(model_id=model_id, number=number, **content))
    point_alias(session, model_id=model_id, alias=CANDIDATE, number=number)


def _links(job_id: UUID, experiment_id: UUID | None) -> Select[Any]:
    query = (
        select(
            ExperimentRow.owner,
            ExperimentRow.name,
            ExperimentJobRow.key,
            ExperimentJobRow.role,
            JobRow.result,
        )
        .join(ExperimentJobRow, ExperimentJobRow.experiment_id == ExperimentRow.id)
        .join(JobRow, JobRow.id == ExperimentJobRow.job_id)
        .where(JobRow.id == job_id, JobRow.kind == "fit", JobRow.phase == Phase.SUCCEEDED)
    )
    return query if experiment_id is None else query.where(ExperimentRow.id == experiment_id)


def _versions() -> Select[ModelVersionRow, str]:
    return (
        select(ModelVersionRow, ModelRow.name)
        .join(ModelRow, ModelRow.id == ModelVersionRow.model_id)
        .order_by(ModelVersionRow.number.desc())
    )


def _version(row: Row[ModelVersionRow, str]) -> ModelVersion:
    version, name = row
    return ModelVersion(
        id=version.id,
        model=name,
        number=version.number,
        job_id=version.job_id,
        digest=version.digest,
        files=version.files,
        metrics=version.metrics,
        created_at=version.created_at,
    )

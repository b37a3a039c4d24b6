"""What the tracking server's model registry does not hold yet of model versions and aliases."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import select, update
from sqlalchemy.orm import Session, aliased

from worker.ledger.tables import JobRow, ModelAliasRow, ModelRow, ModelVersionRow

REFUSED: Final = 0
"""In place of a version's number in the registry."""


@dataclass(frozen=True)
class PendingVersion:
    """A version that the registry lacks; ``run_id`` is the run of the job that made it.

    ``registered_name`` is the model's in the registry, once it has one.
    """

    id: UUID
    model_id: UUID
    owner: str
    model: str
    registered_name: str | None
    number: int
    job_id: UUID
    run_id: str | None
    digest: str
    files: dict[str, dict[str, Any]]
    metrics: dict[str, Any]
    created_at: datetime


@dataclass(frozen=True)
class PendingAlias:
    """An alias of model ``id`` for ``mlflow_version``, which stands for version ``number``."""

    id: UUID
    registered_name: str
    alias: str
    number: int
    version_id: UUID
    mlflow_version: int


def pending_versions(
    session: Session, *, limit: int, skip: Collection[UUID] = ()
) -> list[PendingVersion]:
    """One of each model, its oldest, so that the registry counts as the ledger does.

    A version comes once the run of its job is closed, and its files are there to be seen.
    """
    earlier = aliased(ModelVersionRow)
    rows = session.execute(
        select(ModelVersionRow, ModelRow, JobRow.mlflow_run_id)
        .select_from(ModelVersionRow)
        .join(ModelRow, ModelRow.id == ModelVersionRow.model_id)
        .join(JobRow, JobRow.id == ModelVersionRow.job_id)
        .where(
            ModelVersionRow.mlflow_version.is_(None),
            ModelVersionRow.id.not_in(skip),
            JobRow.run_closed,
            ~select(earlier.id)
            .where(
                earlier.model_id == ModelVersionRow.model_id,
                earlier.number < ModelVersionRow.number,
                earlier.mlflow_version.is_(None),
            )
            .exists(),
        )
        .order_by(ModelVersionRow.created_at, ModelVersionRow.id)
        .limit(limit)
    ).all()
    return [
        PendingVersion(
            id=version.id,
            model_id=model.id,
            owner=model.owner,
            model=model.name,
            registered_name=model.mlflow_name,
            number=version.number,
            job_id=version.job_id,
            run_id=run_id,
            digest=version.digest,
            files=version.files,
            metrics=version.metrics,
            created_at=version.created_at,
        )
        for version, model, run_id in rows
    ]


def set_registered_name(session: Session, *, model_id: UUID, name: str) -> str:
    """The model's name in the registry: the first that was set stands."""
    session.execute(
        update(ModelRow)
        .where(ModelRow.id == model_id, ModelRow.mlflow_name.is_(None))
        .values(mlflow_name=name)
        .execution_options(synchronize_session=False)
    )
    standing = session.scalars(select(ModelRow.mlflow_name).where(ModelRow.id == model_id)).one()
    assert standing is not None
    return standing


def set_registered_version(session: Session, *, version_id: UUID, number: int) -> int:
    """The version's number in the registry: the first that was set stands."""
    session.execute(
        update(ModelVersionRow)
        .where(ModelVersionRow.id == version_id, ModelVersionRow.mlflow_version.is_(None))
        .values(mlflow_version=number)
        .execution_options(synchronize_session=False)
    )
    standing = session.scalars(
        select(ModelVersionRow.mlflow_version).where(ModelVersionRow.id == version_id)
    ).one()
    assert standing is not None
    return standing


def pending_aliases(
    session: Session, *, limit: int, skip: Collection[UUID] = ()
) -> list[PendingAlias]:
    """Those that have moved, onto versions that the registry holds. ``skip`` are models."""
    rows = session.execute(
        select(
            ModelAliasRow,
            ModelRow.mlflow_name,
            ModelVersionRow.id,
            ModelVersionRow.mlflow_version,
        )
        .select_from(ModelAliasRow)
        .join(ModelRow, ModelRow.id == ModelAliasRow.model_id)
        .join(
            ModelVersionRow,
            (ModelVersionRow.model_id == ModelAliasRow.model_id)
            & (ModelVersionRow.number == ModelAliasRow.number),
        )
        .where(
            ModelAliasRow.told_number.is_distinct_from(ModelAliasRow.number),
            ModelRow.mlflow_name.is_not(None),
            ModelVersionRow.mlflow_version > REFUSED,
            ModelAliasRow.model_id.not_in(skip),
        )
        .order_by(ModelAliasRow.moved_at)
        .limit(limit)
    ).all()
    return [
        PendingAlias(
            id=row.model_id,
            registered_name=name,
            alias=row.alias,
            number=row.number,
            version_id=version_id,
            mlflow_version=number,
        )
        for row, name, version_id, number in rows
        if name is not None and number is not None
    ]


def mark_alias(session: Session, alias: PendingAlias) -> None:
    """The registry has it there. If it has moved meanwhile it stays pending."""
    session.execute(
        update(ModelAliasRow)
        .where(ModelAliasRow.model_id == alias.id, ModelAliasRow.alias == alias.alias)
        .values(told_number=alias.number)
        .execution_options(synchronize_session=False)
    )

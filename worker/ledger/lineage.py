"""What a job's result descends from: data, models that were given to it, and code."""

from dataclasses import dataclass
from pathlib import PurePosixPath
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from worker.ledger.claiming import model_files
from worker.ledger.models import content_digest
from worker.ledger.tables import (
    AttemptRow,
    DatasetRow,
    JobInputRow,
    JobRow,
    ModelRow,
    ModelVersionRow,
    RevisionRow,
)


@dataclass(frozen=True)
class Source:
    """A model folder that a job was given: made by a job, or a stored version ``model``/``number``."""

    digest: str
    job_id: UUID | None = None
    model: str | None = None
    number: int | None = None


@dataclass(frozen=True)
class Lineage:
    """``inputs`` by the name of the folder (``teacher-big``); ``build`` is the last attempt's."""

    dataset: str
    revision: int
    fingerprint: str
    inputs: dict[str, Source]
    build: dict[str, str]


def lineage(session: Session, job_id: UUID) -> Lineage:
    """Of a job that has started and exists."""
    dataset, revision, fingerprint, build = session.execute(
        select(DatasetRow.name, RevisionRow.number, RevisionRow.fingerprint, AttemptRow.build)
        .select_from(JobRow)
        .join(RevisionRow, RevisionRow.id == JobRow.revision_id)
        .join(DatasetRow, DatasetRow.id == RevisionRow.dataset_id)
        .join(AttemptRow, (AttemptRow.job_id == JobRow.id) & (AttemptRow.number == JobRow.attempt))
        .where(JobRow.id == job_id)
    ).one()
    return Lineage(dataset, revision, fingerprint, _inputs(session, job_id), build or {})


def _inputs(session: Session, job_id: UUID) -> dict[str, Source]:
    rows = session.execute(
        select(
            JobInputRow.path,
            JobInputRow.source_job_id,
            ModelVersionRow.digest,
            ModelVersionRow.number,
            ModelRow.name,
        )
        .select_from(JobInputRow)
        .outerjoin(ModelVersionRow, ModelVersionRow.id == JobInputRow.model_version_id)
        .outerjoin(ModelRow, ModelRow.id == ModelVersionRow.model_id)
        .where(JobInputRow.job_id == job_id)
        .order_by(JobInputRow.path)
    ).all()
    inputs: dict[str, Source] = {}
    for path, source_job_id, stored, number, model in rows:
        name = PurePosixPath(path).name
        if source_job_id is None:
            inputs[name] = Source(stored, model=model, number=number)
        else:
            made = content_digest(model_files(session, source_job_id))
            inputs[name] = Source(made, job_id=source_job_id)
    return inputs

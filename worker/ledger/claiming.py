"""From the queue into a worker's hands."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import func, insert, select
from sqlalchemy.orm import Session

from kdcore.spec import DatasetManifest, rundir
from worker.ledger.files import FileRef, below
from worker.ledger.states import Action, Phase
from worker.ledger.tables import (
    ArtifactRow,
    AttemptRow,
    JobInputRow,
    JobRow,
    ModelVersionRow,
    RevisionRow,
)
from worker.ledger.transitions import transition


@dataclass(frozen=True)
class Checkpoint:
    """A published checkpoint; ``files`` are at their paths below the run directory."""

    step: int
    files: dict[str, FileRef]


@dataclass(frozen=True)
class Claim:
    """All that a worker needs to lay out the run directory of one attempt.

    ``inputs`` maps the run-directory path of each model folder to its files by name.
    """

    job_id: UUID
    attempt: int
    owner: str
    kind: str
    spec: dict[str, Any]
    manifest: DatasetManifest
    inputs: dict[str, dict[str, FileRef]]
    checkpoint: Checkpoint | None
    older_checkpoint: Checkpoint | None = None
    """What to go on from when a file of ``checkpoint`` is missing or rotten."""


def claim(
    session: Session, *, worker: str, queues: Sequence[str], lease_seconds: float
) -> Claim | None:
    """Takes the next job of ``queues`` for ``worker``, or None when there is none that may start.

    The order is priority, then the time of queueing. Rows that other claims hold are skipped, so
    two workers never wait for each other and never get the same attempt.
    """
    job = session.scalar(_next_job(queues))
    if job is None:
        return None
    moved = transition(
        session,
        Action.CLAIM,
        job_id=job.id,
        phase=Phase.QUEUED,
        values={
            "attempt": JobRow.attempt + 1,
            "worker": worker,
            "lease_until": lease_end(lease_seconds),
            # Why the last attempt ended stays with that attempt.
            "reason": None,
            "message": None,
        },
        data={"worker": worker},
    )
    session.execute(insert(AttemptRow).values(job_id=job.id, number=moved.attempt, worker=worker))
    newest, older = _checkpoints(session, job)
    manifest = session.scalar(select(RevisionRow.manifest).where(RevisionRow.id == job.revision_id))
    return Claim(
        job_id=job.id,
        attempt=moved.attempt,
        owner=job.owner,
        kind=job.kind,
        spec=job.spec,
        manifest=DatasetManifest.model_validate(manifest),
        inputs=_inputs(session, job.id),
        checkpoint=newest,
        older_checkpoint=older,
    )


def queue_depth(session: Session) -> dict[str, int]:
    """Queued jobs of each queue that has any."""
    rows = session.execute(
        select(JobRow.queue, func.count().label("depth"))
        .where(JobRow.phase == Phase.QUEUED)
        .group_by(JobRow.queue)
    )
    return {row.queue: row.depth for row in rows}


def lease_end(seconds: float) -> Any:
    """``seconds`` from now on the database's clock, the only one that leases are measured by."""
    return func.now() + timedelta(seconds=seconds)


def model_files(session: Session, job_id: UUID) -> dict[str, FileRef]:
    """The model folder of a succeeded fit: its last attempt is the one that succeeded."""
    rows = session.execute(
        select(ArtifactRow.path, ArtifactRow.sha256, ArtifactRow.size)
        .join(JobRow, (JobRow.id == ArtifactRow.job_id) & (JobRow.attempt == ArtifactRow.attempt))
        .where(ArtifactRow.job_id == job_id, ArtifactRow.step.is_(None))
    )
    return below(rundir.MODEL, {path: FileRef(sha256, size) for path, sha256, size in rows})


def _next_job(queues: Sequence[str]) -> Any:
    return (
        select(JobRow)
        .where(
            JobRow.phase == Phase.QUEUED,
            JobRow.queue.in_(queues),
            JobRow.not_before <= func.now(),
        )
        .order_by(JobRow.priority.desc(), JobRow.queued_at, JobRow.id)
        .limit(1)
        .with_for_update(key_share=True, skip_locked=True, of=JobRow)
        .execution_options(populate_existing=True)
    )


def _inputs(session: Session, job_id: UUID) -> dict[str, dict[str, FileRef]]:
    rows = session.execute(
        select(JobInputRow.path, JobInputRow.source_job_id, ModelVersionRow.files)
        .outerjoin(ModelVersionRow, ModelVersionRow.id == JobInputRow.model_version_id)
        .where(JobInputRow.job_id == job_id)
    ).all()
    inputs: dict[str, dict[str, FileRef]] = {}
    for path, source, stored in rows:
        if source is not None:
            inputs[path] = model_files(session, source)
        else:
            inputs[path] = {name: FileRef.from_json(file) for name, file in stored.items()}
    return inputs


def _checkpoints(session: Session, job: JobRow) -> tuple[Checkpoint | None, Checkpoint | None]:
    """The two newest. A step that two attempts published is taken from the later one."""
    if job.checkpoint_step is None:
        return None, None
    published = (
        select(ArtifactRow.step, func.max(ArtifactRow.attempt))
        .where(ArtifactRow.job_id == job.id, ArtifactRow.step <= job.checkpoint_step)
        .group_by(ArtifactRow.step)
        .order_by(ArtifactRow.step.desc())
        .limit(2)
    )
    found = [
        Checkpoint(step, _checkpoint_files(session, job.id, attempt, step))
        for step, attempt in session.execute(published).all()
        if step is not None
    ]
    return found[0], found[1] if len(found) > 1 else None


def _checkpoint_files(
    session: Session, job_id: UUID, attempt: int, step: int
) -> dict[str, FileRef]:
    rows = session.execute(
        select(ArtifactRow.path, ArtifactRow.sha256, ArtifactRow.size).where(
            ArtifactRow.job_id == job_id,
            ArtifactRow.attempt == attempt,
            ArtifactRow.step == step,
        )
    )
    return {path: FileRef(sha256, size) for path, sha256, size in rows}

"""From the queue into a worker's hands."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import func, insert, select
from sqlalchemy.orm import Session

from kdcore.spec import DatasetManifest, rundir
from worker.ledger.checkpoints import Checkpoint, newest_checkpoints
from worker.ledger.files import FileRef, below
from worker.ledger.resources import Offer
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
from worker.ledger.turns import is_in, next_job

ONE_SLOT = Offer()


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
    gpus: int = 0
    memory_bytes: int | None = None
    seconds_left: float | None = None
    """How long the attempt may run before the job has run for too long; None: as long as it likes."""


def claim(
    session: Session,
    *,
    worker: str,
    queues: Sequence[str],
    lease_seconds: float,
    offer: Offer = ONE_SLOT,
) -> Claim | None:
    """Takes for ``worker`` the job of ``queues`` whose turn it is (see `turns`) and that fits.

    None when there is none that may start, also while the worker is drained. Two workers never wait
    for each other and never get the same attempt.
    """
    job = next_job(session, worker=worker, queues=queues, offer=offer)
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
    newest, older = newest_checkpoints(session, job)
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
        gpus=job.gpus,
        memory_bytes=job.memory_bytes,
        seconds_left=_seconds_left(session, job),
    )


def queue_depth(session: Session) -> dict[str, int]:
    """Queued jobs of each queue that has any, without the paused ones."""
    rows = session.execute(
        select(JobRow.queue, func.count().label("depth"))
        .where(is_in(Phase.QUEUED), ~JobRow.paused)
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


def _seconds_left(session: Session, job: JobRow) -> float | None:
    if job.run_seconds is None:
        return None
    ran = func.sum(func.extract("epoch", AttemptRow.ended_at - AttemptRow.started_at))
    spent = session.scalar(select(ran).where(AttemptRow.job_id == job.id))
    return job.run_seconds - float(spent or 0)

"""What an attempt goes on from: checkpoints that its job has published, or the job it retries."""

from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import CTE, Integer, literal, select
from sqlalchemy.orm import Session

from worker.ledger.files import FileRef
from worker.ledger.tables import ArtifactRow, JobRow


@dataclass(frozen=True)
class Checkpoint:
    """A published checkpoint; ``files`` are at their paths below the run directory."""

    step: int
    files: dict[str, FileRef]


def newest_checkpoints(
    session: Session, job: JobRow
) -> tuple[Checkpoint | None, Checkpoint | None]:
    """The two newest that are still stored.

    A step that several attempts published is taken from the latest of them.
    """
    if job.checkpoint_step is None:
        return None, None
    line = _retried(job.id)
    published = session.execute(
        select(ArtifactRow.step, line.c.age, ArtifactRow.job_id, ArtifactRow.attempt)
        .join(line, line.c.id == ArtifactRow.job_id)
        .where(ArtifactRow.step <= job.checkpoint_step)
        .distinct()
        .order_by(ArtifactRow.step.desc(), line.c.age, ArtifactRow.attempt.desc())
    )
    chosen: dict[int, tuple[UUID, int]] = {}
    for step, _, job_id, attempt in published:
        chosen.setdefault(step, (job_id, attempt))
    found = [
        Checkpoint(step, _files(session, job_id, attempt, step))
        for step, (job_id, attempt) in list(chosen.items())[:2]
    ]
    return found[0] if found else None, found[1] if len(found) > 1 else None


def _retried(job_id: UUID) -> CTE:
    """The job, the one it retries, the one that one retries, and so on; ``age`` counts them."""
    line = (
        select(JobRow.id, JobRow.retry_of, literal(0, Integer).label("age"))
        .where(JobRow.id == job_id)
        .cte("line", recursive=True)
    )
    return line.union_all(
        select(JobRow.id, JobRow.retry_of, line.c.age + 1).join(line, line.c.retry_of == JobRow.id)
    )


def _files(session: Session, job_id: UUID, attempt: int, step: int) -> dict[str, FileRef]:
    rows = session.execute(
        select(ArtifactRow.path, ArtifactRow.sha256, ArtifactRow.size).where(
            ArtifactRow.job_id == job_id,
            ArtifactRow.attempt == attempt,
            ArtifactRow.step == step,
        )
    )
    return {path: FileRef(sha256, size) for path, sha256, size in rows}

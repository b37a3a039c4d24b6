"""The jobs of some experiments and how they feed each other, by digest, as a retry looks at them."""

from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.orm import Session, aliased

from worker.ledger.placing import Placed, Work
from worker.ledger.propagation import INPUT_FAILED
from worker.ledger.resources import Needs
from worker.ledger.states import TERMINAL, Phase
from worker.ledger.tables import ExperimentJobRow, JobInputRow, JobRow

NOT_YET: Final = -1
"""In the place of the step of a checkpoint that there is not."""


def usable(job: JobRow) -> bool:
    """Whether its result is there, or may still come."""
    return job.phase == Phase.SUCCEEDED or (job.phase not in TERMINAL and not job.cancel_requested)


@dataclass(frozen=True)
class Web:
    rows: dict[str, list[JobRow]]
    """Several of one digest where experiments hold different ones."""
    inputs: dict[UUID, list[tuple[str, str | None, UUID | None]]]
    """Of each job: path, digest of the job that makes it, model version that lies there."""
    positions: dict[UUID, int]
    """In the plans."""

    @classmethod
    def of(cls, session: Session, experiments: Collection[UUID]) -> "Web":
        linked = session.execute(
            select(ExperimentJobRow.job_id, func.min(ExperimentJobRow.position))
            .where(ExperimentJobRow.experiment_id.in_(experiments))
            .group_by(ExperimentJobRow.job_id)
        )
        positions = {row[0]: row[1] for row in linked}
        rows: dict[str, list[JobRow]] = defaultdict(list)
        for row in session.scalars(
            select(JobRow).where(JobRow.id.in_(positions)).execution_options(populate_existing=True)
        ):
            rows[row.digest].append(row)
        source = aliased(JobRow)
        inputs: dict[UUID, list[tuple[str, str | None, UUID | None]]] = defaultdict(list)
        for id, path, digest, version in session.execute(
            select(
                JobInputRow.job_id, JobInputRow.path, source.digest, JobInputRow.model_version_id
            )
            .outerjoin(source, source.id == JobInputRow.source_job_id)
            .where(JobInputRow.job_id.in_(positions))
        ):
            inputs[id].append((path, digest, version))
        return cls(dict(rows), dict(inputs), positions)

    @property
    def standing(self) -> dict[str, JobRow]:
        """Of each digest the row that is nearest to a result."""
        return {digest: max(rows, key=_nearness) for digest, rows in self.rows.items()}

    @property
    def succeeded(self) -> dict[str, Placed]:
        return {
            digest: Placed(row.id, Phase.SUCCEEDED, created=False)
            for digest, row in self.standing.items()
            if row.phase == Phase.SUCCEEDED
        }

    def replaceable(self, digest: str) -> list[UUID]:
        """All that stand for it but those that live beside the one that stands."""
        standing = self.standing[digest]
        return [row.id for row in self.rows[digest] if row is standing or not usable(row)]

    def to_place(self, failed: Iterable[str]) -> list[str]:
        """``failed``, what feeds it, and what can be had again by it; in the order of locks."""
        again = self._with_sources(failed)
        standing = self.standing
        good = again | {digest for digest, row in standing.items() if usable(row)}
        for digest in sorted(standing, key=lambda digest: standing[digest].depth):
            fell_with_its_source = standing[digest].reason == INPUT_FAILED
            if fell_with_its_source and self._sources(digest) <= good:
                again.add(digest)
                good.add(digest)
        return sorted(
            self._with_sources(again), key=lambda digest: (standing[digest].depth, digest)
        )

    def work(self, digest: str, placed: dict[str, Placed]) -> Work:
        """The same again, from the last checkpoint of the row that came farthest."""
        row = max(self.rows[digest], key=lambda row: (_step(row), row.created_at))
        inputs = self.inputs.get(row.id, [])
        return Work(
            kind=row.kind,
            digest=digest,
            depth=row.depth,
            spec=row.spec,
            revision_id=row.revision_id,
            priority=row.priority,
            needs=Needs(row.queue, row.gpus, row.memory_bytes, tuple(row.labels), row.run_seconds),
            sources={path: placed[source] for path, source, _ in inputs if source is not None},
            versions={path: version for path, _, version in inputs if version is not None},
            order=min(self.positions[row.id] for row in self.rows[digest]),
            retry_of=row.id,
            checkpoint_step=row.checkpoint_step,
            told={"retry_of": str(row.id)},
        )

    def _sources(self, digest: str) -> set[str]:
        return {
            source
            for row in self.rows[digest]
            for _, source, _ in self.inputs.get(row.id, [])
            if source is not None
        }

    def _with_sources(self, digests: Iterable[str]) -> set[str]:
        """And all from which they are made, directly or not, but for what is there already."""
        found: set[str] = set()
        open_ends = list(digests)
        while open_ends:
            digest = open_ends.pop()
            if digest not in found:
                found.add(digest)
                open_ends += [one for one in self._sources(digest) if one not in self.succeeded]
        return found


def _nearness(row: JobRow) -> tuple[bool, bool, int]:
    return row.phase == Phase.SUCCEEDED, usable(row), _step(row)


def _step(row: JobRow) -> int:
    return NOT_YET if row.checkpoint_step is None else row.checkpoint_step

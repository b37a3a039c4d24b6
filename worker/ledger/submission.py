"""From an experiment to rows, in one transaction: what is new is queued, what exists is shared."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import func, insert, select, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.orm import Session

from kdcore.spec import Experiment, FromModel, PlannedJob, plan
from worker.ledger.datasets import RevisionKey, find_revision
from worker.ledger.errors import IdempotencyMismatch
from worker.ledger.locking import locked
from worker.ledger.models import ModelVersion, model_name, register_versions
from worker.ledger.references import stored_models
from worker.ledger.states import TERMINAL, Phase
from worker.ledger.tables import (
    EventRow,
    ExperimentJobRow,
    ExperimentRow,
    JobInputRow,
    JobRow,
)
from worker.ledger.transitions import wake
from worker.ledger.views import PlannedView

DEFAULT_QUEUE = "cpu"


@dataclass(frozen=True)
class Submission:
    """``replayed``: the Idempotency-Key had already brought this experiment."""

    experiment_id: UUID
    replayed: bool


def submit(
    session: Session,
    *,
    owner: str,
    experiment: Experiment,
    request_digest: str,
    idempotency_key: str | None = None,
    force: bool = False,
    queue: str = DEFAULT_QUEUE,
) -> Submission:
    """Stores the experiment and its jobs; equal work that lives already is not done twice.

    ``request_digest`` stands for the body of the request: the same key with another body is an
    IdempotencyMismatch. ``force`` makes every job anew. Raises InvalidReference for a dataset or
    model that is not there.
    """
    if idempotency_key is not None:
        stored = _stored(session, owner, idempotency_key, request_digest)
        if stored is not None:
            return stored
    blueprint = _blueprint(session, owner, experiment)
    experiment_id = _insert_experiment(
        session, owner, experiment, blueprint.revision, request_digest, idempotency_key
    )
    if experiment_id is None:
        # Another call with this key won the unique index while this one waited for it.
        assert idempotency_key is not None
        winner = _stored(session, owner, idempotency_key, request_digest)
        assert winner is not None
        return winner
    placing = _Placing(session, owner, experiment, blueprint, queue=queue, force=force)
    placed = placing.place_all()
    _link(session, experiment_id, blueprint, placed)
    _write_submitted(session, experiment_id, placed)
    _raise_priority(session, placed, experiment.priority)
    if any(job.created and job.phase is Phase.QUEUED for job in placed.values()):
        wake(session, queue)
    _register_reused(session, experiment_id, experiment.name, blueprint, placed)
    return Submission(experiment_id, replayed=False)


def preview(
    session: Session, *, owner: str, experiment: Experiment, force: bool = False
) -> list[PlannedView]:
    """What `submit` would lead to; changes nothing. Raises InvalidReference."""
    planned = _blueprint(session, owner, experiment).planned
    digests = [] if force else [job.digest for job in planned]
    rows = session.scalars(select(JobRow).where(*_offered(owner), JobRow.digest.in_(digests)))
    live = {row.digest: row for row in rows if not row.cancel_requested or _ended(row)}
    return [_planned_view(job, live.get(job.digest)) for job in planned]


@dataclass(frozen=True)
class _Blueprint:
    revision: RevisionKey
    planned: tuple[PlannedJob, ...]
    versions: dict[str, ModelVersion]
    """Stored models by their reference."""
    depths: dict[str, int]


def _blueprint(session: Session, owner: str, experiment: Experiment) -> _Blueprint:
    revision = find_revision(session, owner=owner, ref=experiment.dataset, field="dataset")
    versions = stored_models(session, owner=owner, experiment=experiment, revision=revision)
    planned = plan(experiment, revision.fingerprint, lambda ref: versions[ref].digest)
    depths: dict[str, int] = {}
    for job in planned:
        depths[job.key] = 1 + max((depths[key] for key in job.needs), default=-1)
    return _Blueprint(revision, planned, versions, depths)


def _stored(session: Session, owner: str, key: str, request_digest: str) -> Submission | None:
    row = session.execute(
        select(ExperimentRow.id, ExperimentRow.request_digest).where(
            ExperimentRow.owner == owner, ExperimentRow.idempotency_key == key
        )
    ).one_or_none()
    if row is None:
        return None
    if row.request_digest != request_digest:
        raise IdempotencyMismatch("this Idempotency-Key came with another body before")
    return Submission(row.id, replayed=True)


def _insert_experiment(
    session: Session,
    owner: str,
    experiment: Experiment,
    revision: RevisionKey,
    request_digest: str,
    idempotency_key: str | None,
) -> UUID | None:
    return session.scalar(
        upsert(ExperimentRow)
        .values(
            id=uuid4(),
            owner=owner,
            name=experiment.name,
            kind=experiment.kind,
            spec=experiment.to_json(),
            revision_id=revision.id,
            idempotency_key=idempotency_key,
            request_digest=request_digest,
        )
        .on_conflict_do_nothing(index_elements=[ExperimentRow.owner, ExperimentRow.idempotency_key])
        .returning(ExperimentRow.id)
    )


@dataclass(frozen=True)
class _Placed:
    """The row that stands for a planned job."""

    id: UUID
    phase: Phase
    created: bool


class _Placing:
    """Finds or makes the row of each planned job, in the one order in which jobs are locked."""

    def __init__(
        self,
        session: Session,
        owner: str,
        experiment: Experiment,
        blueprint: _Blueprint,
        *,
        queue: str,
        force: bool,
    ) -> None:
        self.session = session
        self.owner = owner
        self.experiment = experiment
        self.blueprint = blueprint
        self.queue = queue
        self.force = force
        self.placed: dict[str, _Placed] = {}

    def place_all(self) -> dict[str, _Placed]:
        depths = self.blueprint.depths
        by_digest: dict[str, _Placed] = {}
        for job in sorted(self.blueprint.planned, key=lambda job: (depths[job.key], job.digest)):
            if job.digest not in by_digest:
                by_digest[job.digest] = self._place(job)
            self.placed[job.key] = by_digest[job.digest]
        return self.placed

    def _place(self, job: PlannedJob) -> _Placed:
        """Each further round means that another transaction got through in between."""
        if self.force:
            self._supersede_live(job)
        while True:
            made = self._insert(job)
            if made is not None:
                return made
            live = self._live(job)
            if live is None:
                continue
            if not self.force and self._serves(live, job):
                return _Placed(live.id, Phase(live.phase), created=False)
            self._supersede(live)

    def _insert(self, job: PlannedJob) -> _Placed | None:
        ready = all(self.placed[key].phase is Phase.SUCCEEDED for key in job.needs)
        phase = Phase.QUEUED if ready else Phase.WAITING
        id = self.session.scalar(
            upsert(JobRow)
            .values(
                id=uuid4(),
                owner=self.owner,
                kind=job.job.kind,
                digest=job.digest,
                depth=self.blueprint.depths[job.key],
                spec=job.job.to_json(),
                revision_id=self.blueprint.revision.id,
                queue=self.queue,
                priority=self.experiment.priority,
                phase=phase,
                event_number=1,
                queued_at=self._queued_at(job) if ready else None,
            )
            .on_conflict_do_nothing()
            .returning(JobRow.id)
        )
        if id is None:
            return None
        self._insert_inputs(id, job)
        return _Placed(id, phase, created=True)

    def _queued_at(self, job: PlannedJob) -> Any:
        """All of one plan are queued at one time; a microsecond apart they keep the plan's order."""
        return func.now() + timedelta(microseconds=self.blueprint.planned.index(job))

    def _insert_inputs(self, id: UUID, job: PlannedJob) -> None:
        rows = [
            {
                "job_id": id,
                "path": path,
                "source_job_id": None,
                "model_version_id": self.blueprint.versions[source.ref].id,
            }
            if isinstance(source, FromModel)
            else {
                "job_id": id,
                "path": path,
                "source_job_id": self.placed[source.key].id,
                "model_version_id": None,
            }
            for path, source in job.inputs.items()
        ]
        if rows:
            self.session.execute(insert(JobInputRow), rows)

    def _live(self, job: PlannedJob) -> JobRow | None:
        """Locked to the end of the transaction, so it cannot end or be cancelled meanwhile."""
        return self.session.scalar(
            locked().where(*_offered(self.owner), JobRow.digest == job.digest)
        )

    def _serves(self, live: JobRow, job: PlannedJob) -> bool:
        """A job that is being cancelled is not shared, nor one that waits for such a job."""
        if live.phase == Phase.WAITING:
            sources = set(
                self.session.scalars(
                    select(JobInputRow.source_job_id).where(
                        JobInputRow.job_id == live.id, JobInputRow.source_job_id.is_not(None)
                    )
                )
            )
            return sources == {self.placed[key].id for key in job.needs}
        return _ended(live) or not live.cancel_requested

    def _supersede_live(self, job: PlannedJob) -> None:
        live = self._live(job)
        if live is not None:
            self._supersede(live)

    def _supersede(self, live: JobRow) -> None:
        self.session.execute(
            update(JobRow)
            .where(JobRow.id == live.id)
            .values(superseded=True)
            .execution_options(synchronize_session=False)
        )


def _link(
    session: Session, experiment_id: UUID, blueprint: _Blueprint, placed: Mapping[str, _Placed]
) -> None:
    session.execute(
        insert(ExperimentJobRow),
        [
            {
                "experiment_id": experiment_id,
                "key": job.key,
                "position": position,
                "role": job.role,
                "job_id": placed[job.key].id,
                "reused": not placed[job.key].created,
            }
            for position, job in enumerate(blueprint.planned)
        ],
    )


def _write_submitted(session: Session, experiment_id: UUID, placed: Mapping[str, _Placed]) -> None:
    created = {job.id: (key, job) for key, job in placed.items() if job.created}
    if created:
        session.execute(
            insert(EventRow),
            [
                {
                    "job_id": id,
                    "number": 1,
                    "attempt": None,
                    "type": "job.submitted",
                    "data": {
                        "phase": job.phase,
                        "experiment_id": str(experiment_id),
                        "key": key,
                    },
                }
                for id, (key, job) in created.items()
            ],
        )


def _raise_priority(session: Session, placed: Mapping[str, _Placed], priority: int) -> None:
    """A shared job is as urgent as the most urgent experiment that needs it."""
    shared = [job.id for job in placed.values() if not job.created and job.phase not in TERMINAL]
    if shared:
        session.execute(
            update(JobRow)
            .where(JobRow.id.in_(shared), JobRow.priority < priority)
            .values(priority=priority)
            .execution_options(synchronize_session=False)
        )


def _register_reused(
    session: Session,
    experiment_id: UUID,
    name: str,
    blueprint: _Blueprint,
    placed: Mapping[str, _Placed],
) -> None:
    """What was trained already becomes a version in this experiment's name too."""
    finished = [
        (model_name(name, job.key, job.role), placed[job.key].id)
        for job in blueprint.planned
        if placed[job.key].phase is Phase.SUCCEEDED
    ]
    for _, job_id in sorted(finished):
        register_versions(session, job_id=job_id, experiment_id=experiment_id)


def _offered(owner: str) -> list[Any]:
    """Guards of the unique index `uq_jobs_live_digest`: at most one row for each digest."""
    return [
        JobRow.owner == owner,
        JobRow.phase.not_in([Phase.FAILED, Phase.CANCELLED]),
        ~JobRow.superseded,
    ]


def _ended(job: JobRow) -> bool:
    return job.phase in TERMINAL


def _planned_view(job: PlannedJob, live: JobRow | None) -> PlannedView:
    return PlannedView(
        key=job.key,
        kind=job.job.kind,
        role=job.role,
        needs=list(dict.fromkeys(job.needs)),
        digest=job.digest,
        reused=live is not None,
        phase=None if live is None else Phase(live.phase),
        job_id=None if live is None else live.id,
    )

"""From an experiment to rows, in one transaction: what is new is queued, what exists is shared."""

from collections.abc import Mapping
from dataclasses import dataclass
from uuid import UUID, uuid4

from sqlalchemy import insert, select
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.orm import Session

from kdcore.spec import Experiment, FromJob, PlannedJob, plan
from worker.ledger.datasets import RevisionKey, find_revision
from worker.ledger.deadlines import expires_at
from worker.ledger.errors import IdempotencyMismatch
from worker.ledger.models import ModelVersion, model_name, register_versions
from worker.ledger.placing import Placed, Work, announce, offered, place
from worker.ledger.references import stored_models
from worker.ledger.resources import Needs, needs_of
from worker.ledger.states import TERMINAL, Phase
from worker.ledger.tables import ExperimentJobRow, ExperimentRow, JobRow
from worker.ledger.views import PlannedView


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
    queue: str | None = None,
) -> Submission:
    """Stores the experiment and its jobs; equal work that lives already is not done twice.

    ``request_digest`` stands for the body of the request: the same key with another body is an
    IdempotencyMismatch. ``force`` makes every job anew; ``queue`` overrules the spec's. Raises
    InvalidReference for a dataset or model that is not there.
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
    placed = _place_all(
        session, owner, experiment, blueprint, experiment_id, queue=queue, force=force
    )
    _link(session, experiment_id, blueprint, placed)
    _register_reused(session, experiment_id, experiment.name, blueprint, placed)
    return Submission(experiment_id, replayed=False)


def preview(
    session: Session, *, owner: str, experiment: Experiment, force: bool = False
) -> list[PlannedView]:
    """What `submit` would lead to; changes nothing. Raises InvalidReference."""
    planned = _blueprint(session, owner, experiment).planned
    digests = [] if force else [job.digest for job in planned]
    rows = session.scalars(select(JobRow).where(*offered(owner), JobRow.digest.in_(digests)))
    live = {row.digest: row for row in rows if not row.cancel_requested or row.phase in TERMINAL}
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
            expires_at=expires_at(experiment.deadline_seconds),
        )
        .on_conflict_do_nothing(index_elements=[ExperimentRow.owner, ExperimentRow.idempotency_key])
        .returning(ExperimentRow.id)
    )


def _place_all(
    session: Session,
    owner: str,
    experiment: Experiment,
    blueprint: _Blueprint,
    experiment_id: UUID,
    *,
    queue: str | None,
    force: bool,
) -> dict[str, Placed]:
    """The row of each planned job, by its key; two of equal digest are one."""
    placed: dict[str, Placed] = {}
    by_digest: dict[str, tuple[Placed, Work]] = {}
    depths = blueprint.depths
    for job in sorted(blueprint.planned, key=lambda job: (depths[job.key], job.digest)):
        if job.digest not in by_digest:
            needs = needs_of(job.job, experiment.resources, queue=queue)
            told = {"experiment_id": str(experiment_id), "key": job.key}
            work = _work(blueprint, job, placed, experiment.priority, needs, told)
            by_digest[job.digest] = place(session, owner, work, force=force), work
        placed[job.key], _ = by_digest[job.digest]
    announce(session, by_digest.values())
    return placed


def _work(
    blueprint: _Blueprint,
    job: PlannedJob,
    placed: Mapping[str, Placed],
    priority: int,
    needs: Needs,
    told: dict[str, str],
) -> Work:
    sources, versions = {}, {}
    for path, source in job.inputs.items():
        if isinstance(source, FromJob):
            sources[path] = placed[source.key]
        else:
            versions[path] = blueprint.versions[source.ref].id
    return Work(
        kind=job.job.kind,
        digest=job.digest,
        depth=blueprint.depths[job.key],
        spec=job.job.to_json(),
        revision_id=blueprint.revision.id,
        priority=priority,
        needs=needs,
        sources=sources,
        versions=versions,
        order=blueprint.planned.index(job),
        told=told,
    )


def _link(
    session: Session, experiment_id: UUID, blueprint: _Blueprint, placed: Mapping[str, Placed]
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


def _register_reused(
    session: Session,
    experiment_id: UUID,
    name: str,
    blueprint: _Blueprint,
    placed: Mapping[str, Placed],
) -> None:
    """What was trained already becomes a version in this experiment's name too."""
    finished = [
        (model_name(name, job.key, job.role), placed[job.key].id)
        for job in blueprint.planned
        if placed[job.key].phase is Phase.SUCCEEDED
    ]
    for _, job_id in sorted(finished):
        register_versions(session, job_id=job_id, experiment_id=experiment_id)


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

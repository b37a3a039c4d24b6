"""All tables. Only the functions of this package change a row; there are no relationships."""

from datetime import datetime
from typing import Any, ClassVar
from uuid import UUID, uuid4

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    DateTime,
    Double,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    MetaData,
    Text,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from worker.ledger.states import Phase

NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}
_PHASES = ", ".join(f"'{phase}'" for phase in Phase)


class Base(DeclarativeBase):
    metadata = MetaData(naming_convention=NAMING)
    type_annotation_map: ClassVar[dict[Any, Any]] = {
        datetime: DateTime(timezone=True),
        dict[str, Any]: JSONB,
        str: Text,
        float: Double,
    }


def _id() -> Any:
    return mapped_column(primary_key=True, default=uuid4)


def _now() -> Any:
    return mapped_column(server_default=func.now())


class DatasetRow(Base):
    __tablename__ = "datasets"
    __table_args__ = (UniqueConstraint("owner", "name"),)

    id: Mapped[UUID] = _id()
    owner: Mapped[str]
    name: Mapped[str]
    created_at: Mapped[datetime] = _now()


class RevisionRow(Base):
    """An immutable snapshot; its files are in the artefact store under their sha256."""

    __tablename__ = "dataset_revisions"
    __table_args__ = (
        UniqueConstraint("dataset_id", "number"),
        UniqueConstraint("dataset_id", "fingerprint"),
    )

    id: Mapped[UUID] = _id()
    dataset_id: Mapped[UUID] = mapped_column(ForeignKey("datasets.id"))
    number: Mapped[int]
    fingerprint: Mapped[str]
    source: Mapped[dict[str, Any]]
    manifest: Mapped[dict[str, Any]]
    created_at: Mapped[datetime] = _now()


class ThumbnailRow(Base):
    """A small picture of a sample; ``place`` counts the samples of a split in the manifest."""

    __tablename__ = "thumbnails"

    revision_id: Mapped[UUID] = mapped_column(ForeignKey("dataset_revisions.id"), primary_key=True)
    split: Mapped[str] = mapped_column(primary_key=True)
    place: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    sample: Mapped[str]
    sha256: Mapped[str]
    size: Mapped[int]


class ExperimentRow(Base):
    """``spec`` never changes. The phase of an experiment is read off its jobs.

    A job that several experiments share goes on until each of them has ``cancel_requested``, and
    rests while each of them is cancelled or ``paused``.
    """

    __tablename__ = "experiments"
    __table_args__ = (
        UniqueConstraint("owner", "idempotency_key"),
        Index(None, "owner", "created_at", "id"),
        Index(
            "ix_experiments_expires_at",
            "expires_at",
            postgresql_where=text("expires_at IS NOT NULL"),
        ),
        Index("ix_experiments_open_run", "id", postgresql_where=text("NOT run_closed")),
    )

    id: Mapped[UUID] = _id()
    owner: Mapped[str]
    name: Mapped[str]
    kind: Mapped[str]
    spec: Mapped[dict[str, Any]]
    revision_id: Mapped[UUID] = mapped_column(ForeignKey("dataset_revisions.id"))
    idempotency_key: Mapped[str | None]
    request_digest: Mapped[str]
    cancel_requested: Mapped[bool] = mapped_column(server_default=text("false"))
    paused: Mapped[bool] = mapped_column(server_default=text("false"))
    expires_at: Mapped[datetime | None]
    """Its deadline, until somebody has looked whether it was kept."""
    mlflow_run_id: Mapped[str | None]
    """The run above those of its jobs; there is one as soon as a job of it has started."""
    run_closed: Mapped[bool] = mapped_column(server_default=text("false"))
    """The tracking server knows how it ended."""
    created_at: Mapped[datetime] = _now()


class JobRow(Base):
    """One unit of work, shared by every experiment that needs it.

    Whoever locks several jobs does so in the order (depth, digest, id), so sources come before what
    they feed and no two transactions wait for each other.

    ``attempt`` is the fencing token: it grows with each claim, and every write of a worker is
    guarded by it. ``event_number`` numbers the job's events without a gap, under the row's lock.
    """

    __tablename__ = "jobs"
    __table_args__ = (
        CheckConstraint(f"phase IN ({_PHASES})", name="phase"),
        CheckConstraint("depth >= 0", name="depth"),
        CheckConstraint("(phase = 'running') = (lease_until IS NOT NULL)", name="lease"),
        Index(
            "uq_jobs_live_digest", "owner", "digest", unique=True,
            postgresql_where=text("phase NOT IN ('failed', 'cancelled') AND NOT superseded"),
        ),
        Index(
            "ix_jobs_turn", "queue", "owner", "turn_at", "id",
            postgresql_where=text("phase = 'queued'"),
        ),
        # Workers of the former version claim by this one.
        Index(
            "ix_jobs_claim", "queue", text("priority DESC"), "queued_at", "id",
            postgresql_where=text("phase = 'queued'"),
        ),
        Index("ix_jobs_lease", "lease_until", postgresql_where=text("phase = 'running'")),
        Index(
            "ix_jobs_succeeded", "queue", "kind", "finished_at",
            postgresql_where=text("phase = 'succeeded'"),
        ),
        Index(
            "ix_jobs_on_its_way", "queue",
            postgresql_where=text("phase IN ('waiting', 'queued', 'running')"),
        ),
        Index("ix_jobs_retry_of", "retry_of", postgresql_where=text("retry_of IS NOT NULL")),
        Index("ix_jobs_open_run", "id", postgresql_where=text("NOT run_closed AND attempt > 0")),
        Index(None, "owner", "created_at", "id"),
    )  # fmt: skip

    id: Mapped[UUID] = _id()
    owner: Mapped[str]
    kind: Mapped[str]
    digest: Mapped[str]
    superseded: Mapped[bool] = mapped_column(server_default=text("false"))
    """Somebody asked for the same work again with ``force``; it is no longer offered for reuse."""
    depth: Mapped[int]
    """Length of the longest way from a job without sources; follows from the digest."""
    spec: Mapped[dict[str, Any]]
    revision_id: Mapped[UUID] = mapped_column(ForeignKey("dataset_revisions.id"))
    retry_of: Mapped[UUID | None] = mapped_column(ForeignKey("jobs.id"))
    """The job that failed or was cancelled, and from whose last checkpoint this one goes on."""

    queue: Mapped[str]
    priority: Mapped[int]
    gpus: Mapped[int] = mapped_column(server_default=text("0"))
    memory_bytes: Mapped[int | None] = mapped_column(BigInteger)
    labels: Mapped[list[str]] = mapped_column(ARRAY(Text), server_default=text("'{}'"))
    run_seconds: Mapped[int | None]
    turn_at: Mapped[datetime] = _now()
    """Jobs of one owner have their turn in this order: `turns.turn_at`."""
    paused: Mapped[bool] = mapped_column(server_default=text("false"))
    """Not claimed, and its worker is asked to leave with a checkpoint; the phase says the rest."""

    phase: Mapped[str]
    reason: Mapped[str | None]
    message: Mapped[str | None]
    failure: Mapped[dict[str, Any] | None]
    cancel_requested: Mapped[bool] = mapped_column(server_default=text("false"))

    attempt: Mapped[int] = mapped_column(server_default=text("0"))
    fruitless: Mapped[int] = mapped_column(server_default=text("0"))
    """Failed attempts since the newest checkpoint; interrupted ones are not counted."""
    worker: Mapped[str | None]
    lease_until: Mapped[datetime | None]
    not_before: Mapped[datetime] = _now()

    progress: Mapped[dict[str, Any] | None]
    checkpoint_step: Mapped[int | None]
    result: Mapped[dict[str, Any] | None]
    event_number: Mapped[int] = mapped_column(server_default=text("0"))
    mlflow_run_id: Mapped[str | None]
    run_closed: Mapped[bool] = mapped_column(server_default=text("false"))
    """The tracking server knows how the job ended."""

    created_at: Mapped[datetime] = _now()
    queued_at: Mapped[datetime | None]
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]


class ExperimentJobRow(Base):
    """An experiment's job under its key in the plan, such as ``distilled-0``."""

    __tablename__ = "experiment_jobs"
    __table_args__ = (Index(None, "job_id"),)

    experiment_id: Mapped[UUID] = mapped_column(ForeignKey("experiments.id"), primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    position: Mapped[int]
    role: Mapped[str | None]
    job_id: Mapped[UUID] = mapped_column(ForeignKey("jobs.id"))
    reused: Mapped[bool]
    told_job_id: Mapped[UUID | None]
    """The job whose run the tracking server shows below this experiment's."""


class FormerJobRow(Base):
    """A job that failed or was cancelled, and stood under this key until it was tried again."""

    __tablename__ = "former_jobs"
    __table_args__ = (Index(None, "job_id"),)

    experiment_id: Mapped[UUID] = mapped_column(ForeignKey("experiments.id"), primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    job_id: Mapped[UUID] = mapped_column(ForeignKey("jobs.id"), primary_key=True)
    replaced_at: Mapped[datetime] = _now()


class ModelRow(Base):
    __tablename__ = "models"
    __table_args__ = (UniqueConstraint("owner", "name"),)

    id: Mapped[UUID] = _id()
    owner: Mapped[str]
    name: Mapped[str]
    mlflow_name: Mapped[str | None]
    """Its name in the tracking server's registry, which knows no owners."""
    created_at: Mapped[datetime] = _now()


class ModelVersionRow(Base):
    """``files`` maps the files of the model folder to ``{"sha256", "size"}``."""

    __tablename__ = "model_versions"
    __table_args__ = (
        UniqueConstraint("model_id", "number"),
        UniqueConstraint("model_id", "job_id"),
        Index(
            "ix_model_versions_unregistered", "model_id", "number",
            postgresql_where=text("mlflow_version IS NULL"),
        ),
    )  # fmt: skip

    id: Mapped[UUID] = _id()
    model_id: Mapped[UUID] = mapped_column(ForeignKey("models.id"))
    number: Mapped[int]
    job_id: Mapped[UUID] = mapped_column(ForeignKey("jobs.id"))
    digest: Mapped[str]
    files: Mapped[dict[str, Any]]
    metrics: Mapped[dict[str, Any]]
    mlflow_version: Mapped[int | None]
    """Its number in the tracking server's registry; 0 if that refused it."""
    created_at: Mapped[datetime] = _now()


class ModelAliasRow(Base):
    """A name that moves from version to version of a model, such as ``champion``."""

    __tablename__ = "model_aliases"
    __table_args__ = (
        ForeignKeyConstraint(
            ["model_id", "number"], ["model_versions.model_id", "model_versions.number"]
        ),
    )

    model_id: Mapped[UUID] = mapped_column(ForeignKey("models.id"), primary_key=True)
    alias: Mapped[str] = mapped_column(primary_key=True)
    number: Mapped[int]
    told_number: Mapped[int | None]
    """The version that the tracking server's registry has under this alias."""
    moved_at: Mapped[datetime] = _now()


class JobInputRow(Base):
    """The model folder at ``path`` of the run directory comes from a job or is a stored model."""

    __tablename__ = "job_inputs"
    __table_args__ = (
        CheckConstraint("(source_job_id IS NULL) <> (model_version_id IS NULL)", name="one_source"),
        Index(None, "source_job_id"),
    )

    job_id: Mapped[UUID] = mapped_column(ForeignKey("jobs.id"), primary_key=True)
    path: Mapped[str] = mapped_column(primary_key=True)
    source_job_id: Mapped[UUID | None] = mapped_column(ForeignKey("jobs.id"))
    model_version_id: Mapped[UUID | None] = mapped_column(ForeignKey("model_versions.id"))


class AttemptRow(Base):
    """One claim of a job by one worker; kept for ever, with how it ended."""

    __tablename__ = "attempts"

    job_id: Mapped[UUID] = mapped_column(ForeignKey("jobs.id"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    worker: Mapped[str]
    started_at: Mapped[datetime] = _now()
    ended_at: Mapped[datetime | None]
    ended_as: Mapped[str | None]
    """``succeeded``, ``cancelled`` or a `FailureKind`."""
    exit_status: Mapped[int | None]
    message: Mapped[str | None]
    relayed: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    """Bytes of the attempt's `events.jsonl` the ledger holds: a batch sent twice is taken once."""
    build: Mapped[dict[str, Any] | None]
    """What code ran it: see `worker.build`."""


class EventRow(Base):
    __tablename__ = "events"

    job_id: Mapped[UUID] = mapped_column(ForeignKey("jobs.id"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    attempt: Mapped[int | None]
    type: Mapped[str]
    data: Mapped[dict[str, Any]]
    at: Mapped[datetime] = _now()


class MetricRow(Base):
    """A metric point. ``projected_at`` is set once the tracking server holds it."""

    __tablename__ = "metrics"
    __table_args__ = (
        Index("ix_metrics_pending", "job_id", postgresql_where=text("projected_at IS NULL")),
    )

    job_id: Mapped[UUID] = mapped_column(ForeignKey("jobs.id"), primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    step: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    value: Mapped[float]
    at: Mapped[datetime]
    projected_at: Mapped[datetime | None]


class ArtifactRow(Base):
    """A file of an attempt, published: its content is in the artefact store under ``sha256``."""

    __tablename__ = "artifacts"
    __table_args__ = (
        ForeignKeyConstraint(["job_id", "attempt"], ["attempts.job_id", "attempts.number"]),
        Index(None, "job_id", "step"),
    )

    job_id: Mapped[UUID] = mapped_column(primary_key=True)
    attempt: Mapped[int] = mapped_column(primary_key=True)
    path: Mapped[str] = mapped_column(primary_key=True)
    sha256: Mapped[str]
    size: Mapped[int] = mapped_column(BigInteger)
    step: Mapped[int | None] = mapped_column(Integer)
    """Set on the files of a checkpoint."""
    created_at: Mapped[datetime] = _now()

"""Turns, resources, pauses, deadlines and retries of jobs; workers; closed queues.

Revision ID: 0003_lifecycle
Revises: 0002_thumbnails
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY

revision = "0003_lifecycle"
down_revision = "0002_thumbnails"
branch_labels = None
depends_on = None

NEW_COLUMNS = {
    "experiments": ("paused", "expires_at"),
    "jobs": (
        "retry_of",
        "gpus",
        "memory_bytes",
        "labels",
        "run_seconds",
        "turn_at",
        "paused",
    ),
}


def upgrade() -> None:
    op.add_column("experiments", _flag("paused"))
    op.add_column("experiments", sa.Column("expires_at", sa.DateTime(timezone=True)))
    op.create_index(
        "ix_experiments_expires_at",
        "experiments",
        ["expires_at"],
        postgresql_where=sa.text("expires_at IS NOT NULL"),
    )
    op.add_column("jobs", sa.Column("retry_of", sa.Uuid()))
    op.create_foreign_key("fk_jobs_retry_of_jobs", "jobs", "jobs", ["retry_of"], ["id"])
    op.add_column(
        "jobs", sa.Column("gpus", sa.Integer(), server_default=sa.text("0"), nullable=False)
    )
    op.add_column("jobs", sa.Column("memory_bytes", sa.BigInteger()))
    op.add_column(
        "jobs",
        sa.Column("labels", ARRAY(sa.Text()), server_default=sa.text("'{}'"), nullable=False),
    )
    op.add_column("jobs", sa.Column("run_seconds", sa.Integer()))
    op.add_column("jobs", _moment("turn_at"))
    op.add_column("jobs", _flag("paused"))
    op.execute(
        "UPDATE jobs SET turn_at = queued_at - priority * interval '600 seconds'"
        " WHERE phase IN ('queued', 'running') AND queued_at IS NOT NULL"
    )
    op.create_index(
        "ix_jobs_turn",
        "jobs",
        ["queue", "owner", "turn_at", "id"],
        postgresql_where=sa.text("phase = 'queued'"),
    )
    op.create_index(
        "ix_jobs_succeeded",
        "jobs",
        ["queue", "kind", "finished_at"],
        postgresql_where=sa.text("phase = 'succeeded'"),
    )
    op.create_index(
        "ix_jobs_on_its_way",
        "jobs",
        ["queue"],
        postgresql_where=sa.text("phase IN ('waiting', 'queued', 'running')"),
    )
    op.create_index(
        "ix_jobs_retry_of",
        "jobs",
        ["retry_of"],
        postgresql_where=sa.text("retry_of IS NOT NULL"),
    )
    op.create_table(
        "former_jobs",
        sa.Column("experiment_id", sa.Uuid(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("job_id", sa.Uuid(), nullable=False),
        _moment("replaced_at"),
        sa.ForeignKeyConstraint(
            ["experiment_id"], ["experiments.id"], name="fk_former_jobs_experiment_id_experiments"
        ),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name="fk_former_jobs_job_id_jobs"),
        sa.PrimaryKeyConstraint("experiment_id", "key", "job_id", name="pk_former_jobs"),
    )
    op.create_index("ix_former_jobs_job_id", "former_jobs", ["job_id"])
    op.create_table(
        "workers",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("queues", ARRAY(sa.Text()), nullable=False),
        sa.Column("labels", ARRAY(sa.Text()), nullable=False),
        sa.Column("cpu_slots", sa.Integer(), nullable=False),
        sa.Column("gpus", sa.Integer(), nullable=False),
        sa.Column("memory_bytes", sa.BigInteger()),
        sa.Column("drain", sa.Text()),
        _moment("started_at"),
        _moment("seen_at"),
        sa.PrimaryKeyConstraint("name", name="pk_workers"),
    )
    op.create_table(
        "closed_queues",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        _moment("closed_at"),
        sa.PrimaryKeyConstraint("name", name="pk_closed_queues"),
    )


def downgrade() -> None:
    op.drop_index("ix_jobs_on_its_way", "jobs")
    op.drop_index("ix_jobs_succeeded", "jobs")
    op.drop_table("closed_queues")
    op.drop_table("workers")
    op.drop_table("former_jobs")
    for table, columns in NEW_COLUMNS.items():
        for column in columns:  # and with each its indexes and keys
            op.drop_column(table, column)


def _flag(name: str) -> sa.Column[bool]:
    return sa.Column(name, sa.Boolean(), server_default=sa.text("false"), nullable=False)


def _moment(name: str) -> sa.Column[object]:
    return sa.Column(
        name, sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False
    )

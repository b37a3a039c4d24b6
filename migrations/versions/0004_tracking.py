"""What the tracking server holds of experiments and models; aliases; what code ran an attempt.

Revision ID: 0004_tracking
Revises: 0003_lifecycle
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0004_tracking"
down_revision = "0003_lifecycle"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # No default but a constant: Postgres adds such a column without rewriting the table.
    op.add_column("experiments", sa.Column("mlflow_run_id", sa.Text()))
    op.add_column(
        "experiments",
        sa.Column("run_closed", sa.Boolean(), server_default=sa.text("false"), nullable=False),
    )
    op.add_column("experiment_jobs", sa.Column("told_job_id", sa.Uuid()))
    op.add_column("attempts", sa.Column("build", JSONB()))
    op.add_column("models", sa.Column("mlflow_name", sa.Text()))
    op.add_column("model_versions", sa.Column("mlflow_version", sa.Integer()))
    op.create_index(
        "ix_experiments_open_run",
        "experiments",
        ["id"],
        postgresql_where=sa.text("NOT run_closed"),
    )
    op.create_index(
        "ix_model_versions_unregistered",
        "model_versions",
        ["model_id", "number"],
        postgresql_where=sa.text("mlflow_version IS NULL"),
    )
    op.create_table(
        "model_aliases",
        sa.Column("model_id", sa.Uuid(), nullable=False),
        sa.Column("alias", sa.Text(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("told_number", sa.Integer(), nullable=True),
        sa.Column(
            "moved_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.ForeignKeyConstraint(
            ["model_id"], ["models.id"], name="fk_model_aliases_model_id_models"
        ),
        sa.ForeignKeyConstraint(
            ["model_id", "number"],
            ["model_versions.model_id", "model_versions.number"],
            name="fk_model_aliases_model_id_number_model_versions",
        ),
        sa.PrimaryKeyConstraint("model_id", "alias", name="pk_model_aliases"),
    )
    op.execute(
        "INSERT INTO model_aliases (model_id, alias, number) "
        "SELECT model_id, 'candidate', max(number) FROM model_versions GROUP BY model_id"
    )
    op.create_table(
        "duties",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("holder", sa.Text(), nullable=False),
        sa.Column("until", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_duties"),
    )


def downgrade() -> None:
    op.drop_table("duties")
    op.drop_table("model_aliases")
    op.drop_index("ix_model_versions_unregistered", "model_versions")
    op.drop_index("ix_experiments_open_run", "experiments")
    op.drop_column("model_versions", "mlflow_version")
    op.drop_column("models", "mlflow_name")
    op.drop_column("attempts", "build")
    op.drop_column("experiment_jobs", "told_job_id")
    op.drop_column("experiments", "run_closed")
    op.drop_column("experiments", "mlflow_run_id")

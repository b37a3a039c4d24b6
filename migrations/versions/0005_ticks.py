"""Ticks: the moments at which maintenance ran.

Revision ID: 0005_ticks
Revises: 0004_tracking
"""

import sqlalchemy as sa
from alembic import op

revision = "0005_ticks"
down_revision = "0004_tracking"
branch_labels = None
depends_on = None


def upgrade() -> None:
    moment = sa.DateTime(timezone=True)
    op.create_table(
        "ticks",
        sa.Column("schedule", sa.Text(), nullable=False),
        sa.Column("fire_at", moment, nullable=False),
        sa.Column("worker", sa.Text(), nullable=False),
        sa.Column("started_at", moment, server_default=sa.func.now(), nullable=False),
        sa.Column("ended_at", moment, nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("schedule", "fire_at", name="pk_ticks"),
    )


def downgrade() -> None:
    op.drop_table("ticks")

"""Thumbnails of datasets.

Revision ID: 0002_thumbnails
Revises: 0001
"""

import sqlalchemy as sa
from alembic import op

revision = "0002_thumbnails"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "thumbnails",
        sa.Column("revision_id", sa.Uuid(), nullable=False),
        sa.Column("split", sa.Text(), nullable=False),
        sa.Column("place", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("sample", sa.Text(), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("size", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["revision_id"],
            ["dataset_revisions.id"],
            name="fk_thumbnails_revision_id_dataset_revisions",
        ),
        sa.PrimaryKeyConstraint("revision_id", "split", "place", name="pk_thumbnails"),
    )


def downgrade() -> None:
    op.drop_table("thumbnails")

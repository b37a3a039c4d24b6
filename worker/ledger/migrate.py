"""Brings a database to the schema that this code expects: `python -m worker.ledger.migrate`."""

import os
from pathlib import Path

from alembic import command
from alembic.config import Config

MIGRATIONS = Path(__file__).resolve().parents[2] / "migrations"


def upgrade(url: str, *, revision: str = "head") -> None:
    """Runs the missing migrations; several callers at once wait for each other."""
    command.upgrade(configuration(url), revision)


def downgrade(url: str, *, revision: str) -> None:
    command.downgrade(configuration(url), revision)


def configuration(url: str) -> Config:
    """Alembic's settings for the database at ``url`` (``postgresql+psycopg://...``)."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.set_main_option("path_separator", "os")
    # Config interpolates percent signs, which a password or a socket folder may hold.
    config.set_main_option("sqlalchemy.url", url.replace("%", "%%"))
    return config


if __name__ == "__main__":
    upgrade(os.environ["KD_DATABASE_URL"])

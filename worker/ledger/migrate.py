"""Brings a database to the schema that this code expects: `python -m worker.ledger.migrate`."""

import os
from functools import cache
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy.orm import Session

MIGRATIONS = Path(__file__).resolve().parents[2] / "migrations"


def upgrade(url: str, *, revision: str = "head") -> None:
    """Runs the missing migrations; several callers at once wait for each other."""
    command.upgrade(configuration(url), revision)


def downgrade(url: str, *, revision: str) -> None:
    command.downgrade(configuration(url), revision)


def found_heads(session: Session) -> set[str]:
    """Where the schema of the database stands; empty before the first migration."""
    return set(MigrationContext.configure(session.connection()).get_current_heads())


@cache
def expected_heads() -> frozenset[str]:
    """Where this code needs the schema to stand."""
    return frozenset(ScriptDirectory(str(MIGRATIONS)).get_heads())


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

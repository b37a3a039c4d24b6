"""How Alembic reaches the database: one migrator at a time, with short waits for locks."""

import os

from alembic import context
from sqlalchemy import Connection, create_engine, pool, text

from worker.ledger.tables import Base

MIGRATOR_LOCK = 0x57111
"""Advisory lock: of several processes that start at once, one migrates and the others wait."""

MIGRATOR_TIMEOUT = "60s"

LOCK_TIMEOUT = "5s"
"""A migration that waits longer for a table makes every query queue up behind it: it fails."""


def run() -> None:
    connection: Connection | None = context.config.attributes.get("connection")
    if connection is not None:
        migrate(connection)
        return
    url = context.config.get_main_option("sqlalchemy.url") or os.environ["KD_DATABASE_URL"]
    engine = create_engine(url, poolclass=pool.NullPool)
    with engine.connect() as connection:
        migrate(connection)


def migrate(connection: Connection) -> None:
    context.configure(connection=connection, target_metadata=Base.metadata)
    with context.begin_transaction():
        connection.execute(text(f"SET LOCAL lock_timeout = '{MIGRATOR_TIMEOUT}'"))
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": MIGRATOR_LOCK})
        connection.execute(text(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'"))
        context.run_migrations()


run()

"""Transactions, and what a database that is away looks like."""

from pathlib import Path

import psycopg
import pytest
from sqlalchemy import make_url, text

from tests.worker.ledger import making
from worker.ledger import InvalidReference, Ledger, LedgerUnavailable, NotFound, datasets, models

ROOT = Path(__file__).resolve().parents[3]


def test_a_block_that_raises_leaves_nothing(ledger: Ledger) -> None:
    def register_and_raise() -> None:
        with ledger.unit_of_work() as session:
            datasets.register(
                session, owner=making.OWNER, source=making.source(), manifest=making.manifest()
            )
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        register_and_raise()
    with ledger.unit_of_work() as session, pytest.raises(NotFound):
        datasets.get_revision(session, owner=making.OWNER, ref="nuclei")


def test_a_database_that_is_away() -> None:
    ledger = Ledger("postgresql+psycopg://nobody@127.0.0.1:1/none")
    with pytest.raises(LedgerUnavailable):
        ledger.ping()
    with pytest.raises(LedgerUnavailable), ledger.listen():
        pass
    ledger.close()


def test_a_connection_cut_in_the_middle(ledger: Ledger, postgres_server: str) -> None:
    def work_on_a_cut_connection() -> None:
        with ledger.unit_of_work() as session:
            cut_connections(session.scalar(text("SELECT current_database()")), postgres_server)
            session.execute(text("SELECT 1"))

    with pytest.raises(LedgerUnavailable):
        work_on_a_cut_connection()
    ledger.ping()


def test_connections_cut_while_idle_are_replaced(ledger: Ledger, postgres_server: str) -> None:
    with ledger.unit_of_work() as session:
        database = session.scalar(text("SELECT current_database()"))
    cut_connections(database, postgres_server)
    ledger.ping()


def test_a_value_that_postgres_cannot_hold(ledger: Ledger) -> None:
    with pytest.raises(InvalidReference), ledger.unit_of_work() as session:
        session.execute(text("SELECT :value"), {"value": "a\0b"})
    with pytest.raises(InvalidReference), ledger.unit_of_work() as session:
        models.get_model(session, owner=making.OWNER, name="a\0b")
    with pytest.raises(InvalidReference):
        making.register(ledger, owner="a\0b")


def test_times_are_utc(ledger: Ledger) -> None:
    with ledger.unit_of_work() as session:
        now = session.scalar(text("SELECT now()"))
    assert now is not None
    assert now.utcoffset().total_seconds() == 0


def test_commit_is_written_once() -> None:
    files = [file for folder in ("api", "worker") for file in (ROOT / folder).rglob("*.py")]
    found = [
        file.name for file in files for line in file.read_text().splitlines() if ".commit(" in line
    ]
    assert found == ["session.py"]


def cut_connections(database: str | None, server: str) -> None:
    conninfo = make_url(server).set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(conninfo, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [database]
        )

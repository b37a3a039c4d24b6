"""A real Postgres, started once, and a fresh migrated database for each test that asks for one."""

import itertools
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg import sql
from sqlalchemy import URL, make_url

from embedded.errors import PostgresFailed
from embedded.postgres import Postgres
from worker.ledger import Ledger
from worker.ledger.migrate import upgrade

TEMPLATE = "stillhouse_template"
_names = (f"stillhouse_test_{number}" for number in itertools.count())


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """Superuser's address of a server: the one of KD_TEST_DATABASE_URL, or our own."""
    given = os.environ.get("KD_TEST_DATABASE_URL")
    if given is not None:
        yield given
        return
    # Not below pytest's folder: each new run of pytest closes that one to other users, and where
    # the tests run as root, Postgres is another user.
    with tempfile.TemporaryDirectory(prefix="stillhouse-tests-") as folder:
        server = Postgres(Path(folder) / "postgres", durable=False)
        try:
            server.start()
        except PostgresFailed as error:
            if os.environ.get("CI"):
                raise
            pytest.skip(f"no Postgres here: {error}")
        yield server.url("postgres", user="postgres")
        server.stop()


@pytest.fixture(scope="session")
def postgres_url(postgres_server: str) -> str:
    """A migrated database that no test writes to: those of the tests are copies of it."""
    address = make_url(postgres_server)
    create_database(address, TEMPLATE)
    template = _address(address, TEMPLATE)
    upgrade(template)
    return template


@pytest.fixture
def empty_database_url(postgres_server: str) -> Iterator[str]:
    """A database without tables."""
    address = make_url(postgres_server)
    name = next(_names)
    create_database(address, name)
    yield _address(address, name)
    drop_database(address, name)


@pytest.fixture
def database_url(postgres_server: str, postgres_url: str) -> Iterator[str]:
    """A migrated database of its own."""
    address = make_url(postgres_server)
    name = next(_names)
    create_database(address, name, template=TEMPLATE)
    yield _address(address, name)
    drop_database(address, name)


@pytest.fixture
def ledger(database_url: str) -> Iterator[Ledger]:
    ledger = Ledger(database_url, pool_size=10)
    yield ledger
    ledger.close()


def create_database(server: URL, name: str, *, template: str = "template1") -> None:
    drop_database(server, name)
    _execute(
        server,
        sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(
            sql.Identifier(name), sql.Identifier(template)
        ),
    )


def drop_database(server: URL, name: str) -> None:
    _execute(
        server,
        sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)),
    )


def _execute(server: URL, statement: sql.Composed) -> None:
    conninfo = server.set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(conninfo, autocommit=True) as connection:
        connection.execute(statement)


def _address(server: URL, database: str) -> str:
    return server.set(database=database).render_as_string(hide_password=False)

"""Here nothing but the ledger touches the database, so one is enough, emptied after each test."""

from collections.abc import Iterator

import pytest
from sqlalchemy import delete, make_url

from tests.conftest import create_database, drop_database
from worker.ledger import Ledger
from worker.ledger.tables import Base

SHARED = "stillhouse_ledger"


@pytest.fixture(scope="package")
def shared_ledger(postgres_server: str, postgres_url: str) -> Iterator[Ledger]:
    server = make_url(postgres_server)
    create_database(server, SHARED, template=make_url(postgres_url).database or "")
    address = server.set(database=SHARED).render_as_string(hide_password=False)
    ledger = Ledger(address, pool_size=10)
    yield ledger
    ledger.close()
    drop_database(server, SHARED)


@pytest.fixture
def ledger(shared_ledger: Ledger) -> Iterator[Ledger]:
    yield shared_ledger
    with shared_ledger.unit_of_work() as session:
        for table in reversed(Base.metadata.sorted_tables):
            session.execute(delete(table))

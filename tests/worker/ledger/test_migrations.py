"""The schema comes up, agrees with the tables, goes down again; and several may start at once."""

import os
import subprocess
import sys
from pathlib import Path

from alembic import command
from sqlalchemy import create_engine, inspect

from worker.ledger.migrate import configuration, downgrade, upgrade
from worker.ledger.tables import Base

ROOT = Path(__file__).resolve().parents[3]


def test_up_and_down(empty_database_url: str) -> None:
    upgrade(empty_database_url)
    assert tables(empty_database_url) == set(Base.metadata.tables) | {"alembic_version"}
    command.check(configuration(empty_database_url))
    downgrade(empty_database_url, revision="base")
    assert tables(empty_database_url) == {"alembic_version"}
    upgrade(empty_database_url)
    assert "jobs" in tables(empty_database_url)


def test_partial_indexes_and_checks_are_there(database_url: str) -> None:
    """`alembic check` does not compare these."""
    engine = create_engine(database_url)
    found = inspect(engine)
    live = {index["name"]: index for index in found.get_indexes("jobs")}["uq_jobs_live_digest"]
    checks = {check["name"] for check in found.get_check_constraints("jobs")}
    engine.dispose()
    assert live["unique"]
    assert "NOT superseded" in live["dialect_options"]["postgresql_where"]
    assert checks == {"ck_jobs_phase", "ck_jobs_lease", "ck_jobs_depth"}


def test_several_processes_that_start_at_once(empty_database_url: str) -> None:
    command_line = [sys.executable, "-m", "worker.ledger.migrate"]
    environment = {**os.environ, "KD_DATABASE_URL": empty_database_url}
    started = [subprocess.Popen(command_line, env=environment, cwd=ROOT) for _ in range(2)]
    assert [process.wait(60) for process in started] == [0, 0]
    assert "jobs" in tables(empty_database_url)


def tables(url: str) -> set[str]:
    engine = create_engine(url)
    names = set(inspect(engine).get_table_names())
    engine.dispose()
    return names

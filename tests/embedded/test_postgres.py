"""The embedded Postgres survives what can happen to it, and lets in who has the password."""

import os
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg
import pytest

from embedded.postgres import Postgres
from tests.embedded.waiting import all_gone


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Postgres]:
    postgres = Postgres(tmp_path / "postgres", durable=False)
    postgres.start()
    postgres.ensure_database("one")
    yield postgres
    postgres.stop()


def connect(postgres: Postgres, database: str, **changes: str) -> psycopg.Connection:
    url = postgres.url(database).replace("postgresql+psycopg", "postgresql")
    return psycopg.connect(url, autocommit=True, connect_timeout=5, **changes)


def postmaster(postgres: Postgres) -> psutil.Process:
    return psutil.Process(int((postgres.data / "postmaster.pid").read_text().split()[0]))


def write(postgres: Postgres) -> None:
    with connect(postgres, "one") as connection:
        connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")


def read(postgres: Postgres) -> int:
    with connect(postgres, "one") as connection:
        row = connection.execute("SELECT answer FROM kept").fetchone()
    assert row is not None
    return int(row[0])


def test_data_and_address_survive_a_restart(server: Postgres) -> None:
    write(server)
    address = server.url("one")
    server.stop()
    server.start()
    server.ensure_database("one")
    assert server.url("one") == address
    assert read(server) == 42


def test_stop_leaves_no_process(server: Postgres) -> None:
    main = postmaster(server)
    pids = [main.pid, *(child.pid for child in main.children())]
    server.stop()
    assert all_gone(pids)


def test_what_was_committed_survives_sigkill_of_the_postmaster(tmp_path: Path) -> None:
    server = Postgres(tmp_path / "postgres")
    server.start()
    try:
        server.ensure_database("one")
        write(server)
        postmaster(server).kill()
        server.stop()
        server.start()
        assert read(server) == 42
    finally:
        server.stop()


def test_pid_file_of_a_power_cut_names_a_living_stranger(server: Postgres) -> None:
    write(server)
    server.stop()
    # After a restart of the machine that number is anyone's, here ours.
    lines = [str(os.getpid()), str(server.data), "1", "5432", str(server.folder / "socket"), ""]
    (server.data / "postmaster.pid").write_text("\n".join([*lines, "  1  1", "ready", ""]))
    server.start()
    assert read(server) == 42


def test_initdb_cut_short_is_made_anew(tmp_path: Path) -> None:
    partial = tmp_path / "postgres" / "data.partial"
    partial.mkdir(parents=True)
    (partial / "PG_VERSION").write_text("18\n")
    postgres = Postgres(tmp_path / "postgres", durable=False)
    postgres.start()
    postgres.stop()
    assert not partial.exists()


def test_wrong_password_other_database_and_tcp_are_refused(server: Postgres) -> None:
    server.ensure_database("two")
    with pytest.raises(psycopg.OperationalError, match="password"):
        connect(server, "one", password="wrong")
    with pytest.raises(psycopg.OperationalError, match="permission denied"):
        connect(server, "one", dbname="two")
    listening = [one for one in psutil.net_connections("tcp") if one.status == psutil.CONN_LISTEN]
    assert postmaster(server).pid not in {one.pid for one in listening}


def test_folder_whose_path_is_too_long_for_a_socket(tmp_path: Path) -> None:
    deep = tmp_path / ("deep" * 12) / ("deeper" * 10)
    postgres = Postgres(deep, durable=False)
    postgres.start()
    try:
        postgres.ensure_database("one")
        write(postgres)
        postgres.stop()
        postgres.start()
        assert read(postgres) == 42
    finally:
        postgres.stop()


def test_settings_are_durable_by_default(tmp_path: Path) -> None:
    postgres = Postgres(tmp_path / "postgres")
    postgres.start()
    try:
        postgres.ensure_database("one")
        with connect(postgres, "one") as connection:
            for name in ("fsync", "full_page_writes", "synchronous_commit"):
                assert connection.execute(f"SHOW {name}").fetchone() == ("on",)
    finally:
        postgres.stop()


def test_fast_shutdown_is_sigint(server: Postgres) -> None:
    with connect(server, "one"):
        # An open session delays a smart shutdown (SIGTERM) for ever, and this one not.
        assert server.process.stop() == 0

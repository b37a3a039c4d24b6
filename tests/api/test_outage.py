"""A database that is away means 503 and a hint to try again, and nothing stays broken after it."""

from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

import httpx
import psycopg
import pytest
from psycopg import sql
from sqlalchemy import make_url

from api.settings import Settings
from tests.api.documents import Json, training
from tests.api.problem_assertions import assert_problem
from tests.api.serving import serve
from tests.api.test_events import Stream
from tests.api.working import Worker

NOWHERE = UUID(int=1)


@contextmanager
def database_away(server: str, address: str) -> Iterator[None]:
    """Every connection is cut, and no new one is let in until the block ends."""
    name = sql.Identifier(make_url(address).database or "")
    conninfo = make_url(server).set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(conninfo, autocommit=True) as connection:
        alter = sql.SQL("ALTER DATABASE {} WITH ALLOW_CONNECTIONS {}")
        connection.execute(alter.format(name, sql.SQL("false")))
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s",
            [make_url(address).database],
        )
        try:
            yield
        finally:
            connection.execute(alter.format(name, sql.SQL("true")))


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/jobs"),
        ("GET", f"/v1/jobs/{NOWHERE}"),
        ("GET", f"/v1/jobs/{NOWHERE}/events"),
        ("POST", f"/v1/jobs/{NOWHERE}/cancel"),
        ("GET", f"/v1/experiments/{NOWHERE}"),
        ("GET", f"/v1/comparisons/{NOWHERE}/report"),
        ("GET", "/v1/datasets"),
        ("GET", "/v1/models/none"),
        ("GET", "/readyz"),
    ],
)
def test_no_database_at_all(unreachable: httpx.Client, method: str, path: str) -> None:
    problem = assert_problem(unreachable.request(method, path), "unavailable")
    assert "127.0.0.1" not in str(problem)


def test_submitting_without_a_database(unreachable: httpx.Client) -> None:
    assert_problem(unreachable.post("/v1/experiments", json=training()), "unavailable")
    assert unreachable.get("/healthz").json() == {"status": "alive"}
    assert unreachable.get("/v1/schemas/training").status_code == 200


def test_an_outage_passes(
    client: httpx.Client, experiment: Json, postgres_server: str, database_url: str
) -> None:
    headers = {"Idempotency-Key": "k"}
    assert client.get("/readyz").status_code == 200
    with database_away(postgres_server, database_url):
        assert_problem(client.get("/v1/jobs"), "unavailable")
        answer = client.post("/v1/experiments", json=training(), headers=headers)
        assert_problem(answer, "unavailable")
        ready = assert_problem(client.get("/readyz"), "unavailable")
        assert ready["checks"]["database"]["ok"] is False
        assert ready["checks"]["artifacts"]["ok"] is True
    assert client.get("/readyz").status_code == 200
    retried = client.post("/v1/experiments", json=training(), headers=headers)
    assert retried.status_code == 201


def test_a_stream_outlives_an_outage(
    client: httpx.Client,
    experiment: Json,
    worker: Worker,
    postgres_server: str,
    database_url: str,
) -> None:
    claim = worker.claim()
    with client.stream("GET", f"/v1/jobs/{claim.job_id}/events") as answer:
        stream = Stream(answer)
        stream.until("job.claimed")
        with database_away(postgres_server, database_url):
            # Two heartbeats: the stream has asked in vain, and goes on asking.
            pings = (line for line in stream.lines if line.startswith(": ping"))
            next(pings)
            next(pings)
        worker.succeed(claim)
        assert stream.until("job.succeeded")


@pytest.fixture(scope="module")
def unreachable(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    settings = Settings(
        database_url="postgresql+psycopg://kd:secret@127.0.0.1:1/none",
        artifacts_dir=tmp_path_factory.mktemp("artifacts"),
    )
    with serve(settings) as client:
        yield client

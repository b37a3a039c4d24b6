"""The ledger goes away while trainers run: shorter and longer than the fence."""

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from psycopg import sql
from sqlalchemy import make_url

from tests.worker.ledger import making
from tests.worker.supervisor.bench import Bench, until
from tests.worker.supervisor.test_attempts import assert_events_once_in_order
from worker.ledger import Phase


def test_an_outage_shorter_than_the_fence_changes_nothing(
    bench: Bench, postgres_server: str
) -> None:
    job_id = bench.submit()
    gate = bench.folder / "gate"
    script = {"steps": 40, "every": 10, "pause": 0.01, "at": {"1": {"30": f"wait {gate}"}}}
    with bench.running(script):
        bench.wait_for_step(job_id, 2)
        with outage(bench, postgres_server):
            until(lambda: b'"step": 29' in said(bench, job_id))
        gate.touch()
        bench.wait_for(job_id, Phase.SUCCEEDED)
    job = making.job(bench.ledger, job_id)
    assert (job.attempt, job.checkpoint_step) == (1, 40)
    assert_events_once_in_order(bench, job_id)
    steps = bench.rows("SELECT step FROM metrics WHERE job_id = :id ORDER BY step", id=job_id)
    assert [step for (step,) in steps] == list(range(1, 41))


def test_an_outage_longer_than_the_fence_ends_the_trainer_and_not_the_job(
    bench: Bench, postgres_server: str
) -> None:
    job_id = bench.submit()
    script = {"steps": 30, "every": 5, "at": {"1": {"12": "hang"}}, "on_term": "ignore"}
    times = {"lease_seconds": 3.0, "self_fence_seconds": 1.5, "heartbeat_seconds": 0.3}
    with bench.running(script, **times) as supervisor:
        until(lambda: making.job(bench.ledger, job_id).checkpoint_step == 10)
        with outage(bench, postgres_server):
            until(lambda: not supervisor.busy())
        bench.wait_for(job_id, Phase.SUCCEEDED)
    endings = bench.rows(
        "SELECT number, ended_as FROM attempts WHERE job_id = :id ORDER BY number", id=job_id
    )
    assert endings == [(1, "worker_lost"), (2, "succeeded")]
    assert_events_once_in_order(bench, job_id)


@contextmanager
def outage(bench: Bench, server: str) -> Iterator[None]:
    """Postgres hangs up on everybody in this database and lets nobody in."""
    database = make_url(bench.database_url).database
    assert database is not None
    address = make_url(server).set(drivername="postgresql")
    allow = sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS {}")
    with psycopg.connect(
        address.render_as_string(hide_password=False), autocommit=True
    ) as connection:
        connection.execute(allow.format(sql.Identifier(database), sql.SQL("false")))
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [database]
        )
        try:
            yield
        finally:
            connection.execute(allow.format(sql.Identifier(database), sql.SQL("true")))


def said(bench: Bench, job_id: object) -> bytes:
    return (bench.folder / f"work/runs/{job_id}/a1/events.jsonl").read_bytes()

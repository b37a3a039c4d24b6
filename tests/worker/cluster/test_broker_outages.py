"""Redis away, emptied, reset, stopped: it costs a moment, never a job."""

import signal
import time
from pathlib import Path

import pytest

from tests.worker.cluster.bench import ENDLESS, ClusterBench
from tests.worker.cluster.proxy import Proxy
from tests.worker.ledger import making
from tests.worker.supervisor.bench import QUICK, ROOT, until
from worker.cluster.configuration import WAKE
from worker.ledger import Phase

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
POLLING = {"poll_seconds": QUICK["poll_seconds"]}


def test_a_worker_that_starts_without_a_broker_works(bench: ClusterBench) -> None:
    bench.redis.kill()
    worker = bench.worker({"steps": 2})
    bench.wait_for_log(worker, "worker.started")
    bench.wait_for(bench.submit(), Phase.SUCCEEDED)
    bench.redis.start()
    bench.wait_until_consuming(worker)
    assert_hears(bench)


def test_kill_and_restart_of_the_broker_below_a_run(bench: ClusterBench) -> None:
    job_id = bench.submit()
    worker = bench.worker(ENDLESS)
    bench.wait_until_consuming(worker)
    bench.wait_for_step(job_id, 1)
    for _ in range(3):
        bench.redis.kill()
        step = (making.job(bench.ledger, job_id).progress or {})["step"]
        bench.wait_for_step(job_id, step + 20)
        bench.redis.start()
    assert making.job(bench.ledger, job_id).attempt == 1
    making.cancel(bench.ledger, job_id)
    bench.wait_for(job_id, Phase.CANCELLED)
    assert_hears(bench)


def test_stop_while_the_broker_is_away(bench: ClusterBench) -> None:
    job_id = bench.submit()
    worker = bench.worker(ENDLESS)
    bench.wait_until_consuming(worker)
    bench.wait_for_step(job_id, 1)
    bench.redis.kill()
    worker.terminate()
    assert worker.wait(40) == 0
    assert bench.attempts(job_id) == [(1, "interrupted")]


def test_stop_while_the_broker_hangs(bench: ClusterBench) -> None:
    """The checkpoint does not wait until Celery has given up the connection."""
    job_id = bench.submit()
    worker = bench.worker(ENDLESS)
    bench.wait_until_consuming(worker)
    bench.wait_for_step(job_id, 1)
    bench.redis.send_signal(signal.SIGSTOP)
    worker.terminate()
    until(lambda: bench.attempts(job_id) == [(1, "interrupted")], seconds=15)
    assert worker.wait(90) == 0
    bench.redis.send_signal(signal.SIGCONT)


def test_flushall_loses_hints_and_no_job(bench: ClusterBench) -> None:
    jobs = [bench.submit(seed=seed) for seed in range(3)]
    with bench.application() as application:
        for job_id in jobs:
            application.send_task(WAKE, args=[str(job_id)], queue="cpu")
    bench.redis.client.flushall()
    worker = bench.worker({"steps": 2}, **POLLING)
    bench.wait_until_consuming(worker)
    bench.redis.client.flushall()
    for job_id in jobs:
        bench.wait_for(job_id, Phase.SUCCEEDED)
    assert_hears(bench)


def test_a_storm_of_resets(bench: ClusterBench) -> None:
    proxy = Proxy(bench.redis.port)
    bench.broker_url = f"redis://127.0.0.1:{proxy.port}/0"
    worker = bench.worker({"steps": 2}, environment={"KD_PROBE_SECONDS": "1"})
    bench.wait_until_consuming(worker)
    storm_ends = time.monotonic() + 5
    while time.monotonic() < storm_ends:
        proxy.reset_all()
        time.sleep(0.05)  # the storm's rate
    bench.wait_for(bench.submit(), Phase.SUCCEEDED)
    assert_hears(bench)
    assert worker.poll() is None
    proxy.close()


def test_a_deaf_consumer_starts_anew_once_nothing_runs(bench: ClusterBench) -> None:
    job_id = bench.submit()
    gate, deaf = bench.folder / "gate", bench.folder / "deaf"
    deaf.touch()
    settings = bench.environment(
        {"steps": 2, "at": {"1": {"1": f"wait {gate}"}}}, poll_seconds=3600, work="work"
    )
    worker = bench.start(
        [str(Path(__file__).with_name("deaf_worker.py")), str(deaf)],
        {
            **settings,
            "KD_BROKER_URL": bench.broker_url,
            "KD_PROBE_SECONDS": "0.5",
            "PYTHONPATH": str(ROOT),
        },
    )
    bench.wait_for_log(worker, "consumer.deaf")
    assert "worker.restarts" not in bench.log(worker), "while a run goes on"
    gate.touch()
    bench.wait_for(job_id, Phase.SUCCEEDED)
    bench.wait_for_log(worker, "worker.restarts")
    assert not deaf.exists()
    assert_hears(bench)
    assert bench.attempts(job_id) == [(1, "succeeded")]


def assert_hears(bench: ClusterBench) -> None:
    """A hint, and nothing else, brings the next job."""
    job_id = bench.submit_silently(seed=77)
    with bench.application() as application:
        application.send_task(WAKE, args=[str(job_id)], queue="cpu")
    until(lambda: bench.phase(job_id) is not Phase.QUEUED, seconds=60)

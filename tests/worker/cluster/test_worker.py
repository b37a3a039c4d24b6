"""A worker below Celery does what one by itself does, and answers `celery inspect`."""

import signal
from typing import Any

import pytest

from tests.worker.cluster.bench import ENDLESS, ClusterBench
from tests.worker.ledger import making
from tests.worker.supervisor.bench import is_running, until
from tests.worker.supervisor.test_processes import descendants
from worker.cluster.configuration import TICKS
from worker.ledger import Phase

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def test_a_job_runs_while_inspect_tells_of_it(bench: ClusterBench) -> None:
    job_id = bench.submit()
    gate = bench.folder / "gate"
    script = {"steps": 4, "at": {"1": {"2": f"wait {gate}"}}}
    worker = bench.worker(script, cpu_slots=2)
    bench.wait_until_consuming(worker)
    bench.wait_for_step(job_id, 1)
    with bench.application() as application:
        inspect = application.control.inspect(timeout=5)
        assert only(inspect.ping()) == {"ok": "pong"}
        told = only(inspect._request("slots"))
        assert (told["slots"], told["queues"]) == (2, ["cpu"])
        assert told["runs"] == [{"job": str(job_id), "attempt": 1, "kind": "fit"}]
        assert only(inspect.stats())["supervisor"] == told
        assert set(only(inspect.registered())) == {"worker.wake", "worker.tick"}
    gate.touch()
    bench.wait_for(job_id, Phase.SUCCEEDED)


@pytest.mark.parametrize("environment", [{}, {"REMAP_SIGTERM": "SIGQUIT"}])
def test_stop_means_checkpoint_and_requeue(
    bench: ClusterBench, environment: dict[str, str]
) -> None:
    job_id = bench.submit()
    worker = bench.worker({"steps": 100_000, "pause": 0.01}, environment=environment)
    bench.wait_until_consuming(worker)
    bench.wait_for_step(job_id, 3)
    tree = descendants(worker.pid)
    worker.terminate()
    assert worker.wait(30) == 0, bench.log(worker)[-3000:]
    job = making.job(bench.ledger, job_id)
    assert job.phase is Phase.QUEUED
    assert job.checkpoint_step is not None
    assert bench.attempts(job_id) == [(1, "interrupted")]
    assert not any(map(is_running, tree))


def test_sigkill_ends_the_whole_tree(bench: ClusterBench) -> None:
    job_id = bench.submit()
    worker = bench.worker({**ENDLESS, "on_term": "ignore", "at": {"*": {"1": "spawn"}}})
    bench.wait_until_consuming(worker)
    bench.wait_for_step(job_id, 2)
    tree = descendants(worker.pid)
    assert len(tree) == 3, "leash, trainer and the child that left the session"
    worker.kill()
    worker.wait()
    until(lambda: not any(map(is_running, tree)), seconds=5)


def test_queues_named_on_the_command_line_are_those_of_the_jobs(bench: ClusterBench) -> None:
    cpu = bench.submit()
    experiment = making.training(seeds=[1], name="big")
    gpu = making.jobs_of(bench.ledger, making.submit(bench.ledger, experiment, queue="gpu"))[
        "model-1"
    ].id
    worker = bench.worker({"steps": 2}, "-Q", "gpu")
    bench.wait_until_consuming(worker)
    bench.wait_for(gpu, Phase.SUCCEEDED)
    assert bench.phase(cpu) is Phase.QUEUED
    with bench.application() as application:
        assert only(application.control.inspect(timeout=5)._request("slots"))["queues"] == ["gpu"]
        consumed = {queue["name"] for queue in only(application.control.inspect().active_queues())}
    assert {"gpu", TICKS} < consumed
    assert "cpu" not in consumed


def test_a_worker_that_cannot_have_its_store_ends(bench: ClusterBench) -> None:
    worker = bench.worker({"steps": 2}, environment={"KD_ARTIFACTS_DIR": "/dev/null/nowhere"})
    assert worker.wait(60) == 1
    assert "/dev/null/nowhere" in bench.log(worker)


def test_ctrl_c_ends_as_well(bench: ClusterBench) -> None:
    job_id = bench.submit()
    worker = bench.worker({"steps": 100_000, "pause": 0.01})
    bench.wait_until_consuming(worker)
    bench.wait_for_step(job_id, 3)
    worker.send_signal(signal.SIGINT)
    worker.wait(30)
    assert bench.attempts(job_id) == [(1, "interrupted")]


def only(answers: dict[str, Any] | None) -> Any:
    """What the one worker answered."""
    assert answers is not None
    [answer] = answers.values()
    return answer

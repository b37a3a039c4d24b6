"""What owners and operators ask of a worker that has a trainer running."""

from uuid import UUID

from sqlalchemy import text

from kdcore.spec import FailureKind
from tests.worker.ledger import making
from tests.worker.supervisor.bench import Bench, until
from worker.ledger import Phase, workers
from worker.ledger.workers import Drain, WorkerView

ENDLESS = {"steps": 100_000, "pause": 0.01}
ON_GPUS = {"resources": {"device": "gpu"}, "train": {**making.TRAIN, "gpus": 2}}


def test_a_paused_job_leaves_a_checkpoint_and_goes_on_from_it(bench: Bench) -> None:
    job_id = bench.submit()
    with bench.running(ENDLESS):
        bench.wait_for_step(job_id, 3)
        making.pause(bench.ledger, job_id)
        bench.wait_for(job_id, Phase.QUEUED)
        job = making.job(bench.ledger, job_id)
        assert (job.paused, job.reason) == (True, FailureKind.INTERRUPTED)
        step = job.checkpoint_step
        assert step is not None
        # The slot is free for another, and the paused job stays where it is.
        other = bench.submit(seed=1)
        bench.wait_for(other, Phase.RUNNING)
        making.resume(bench.ledger, job_id)
        making.pause(bench.ledger, other)
        bench.wait_for(job_id, Phase.RUNNING)
        bench.wait_for_step(job_id, step + 2)
    steps = bench.rows("SELECT step FROM metrics WHERE job_id = :id ORDER BY step", id=job_id)
    assert [number for (number,) in steps] == list(range(1, len(steps) + 1))


def test_a_job_that_runs_for_too_long_has_failed(bench: Bench) -> None:
    job_id = bench.submit(resources={"run_seconds": 4})
    with bench.running(ENDLESS):
        bench.wait_for(job_id, Phase.FAILED)
    job = making.job(bench.ledger, job_id)
    assert job.reason == FailureKind.RUN_TIME_EXCEEDED
    assert job.checkpoint_step, "a retry goes on from what it did"


def test_a_deadline_reaches_the_trainer(bench: Bench) -> None:
    job_id = bench.submit(deadline_seconds=3600)
    with bench.running(ENDLESS, lease_seconds=3.0, self_fence_seconds=2.0):
        bench.wait_for_step(job_id, 1)
        with bench.ledger.unit_of_work() as session:
            session.execute(text("UPDATE experiments SET expires_at = now()"))
        bench.wait_for(job_id, Phase.CANCELLED)
    assert making.job(bench.ledger, job_id).reason == "deadline_exceeded"


def test_a_worker_registers_and_leaves(bench: Bench) -> None:
    with bench.running(ENDLESS, cpu_slots=2, labels="fast,big", memory_gib=4) as supervisor:
        until(lambda: bool(listed(bench)))
        (worker,) = listed(bench)
        assert (worker.name, worker.live) == (supervisor.name, True)
        assert (worker.cpu_slots, worker.gpus, worker.memory_bytes) == (2, 0, 4 << 30)
        assert worker.labels == ["fast", "big"]
    assert listed(bench) == []


def test_an_evicted_job_goes_on_elsewhere(bench: Bench) -> None:
    job_id = bench.submit()
    with bench.running(ENDLESS, work="first") as first:
        bench.wait_for_step(job_id, 2)
        drain(bench, first.name, Drain.EVICT)
        with bench.running(ENDLESS, work="second") as second:
            until(lambda: making.job(bench.ledger, job_id).worker == second.name)
            bench.wait_for(job_id, Phase.RUNNING)
            assert first.busy() == 0
    assert ended(bench, job_id)[0] == FailureKind.INTERRUPTED


def test_a_drained_worker_finishes_what_it_has(bench: Bench) -> None:
    first, second = bench.submit(), bench.submit(seed=1)
    with bench.running({"steps": 30, "pause": 0.05}) as supervisor:
        bench.wait_for_step(first, 1)
        drain(bench, supervisor.name, Drain.FINISH)
        bench.wait_for(first, Phase.SUCCEEDED)
        until(lambda: supervisor.busy() == 0)
        assert bench.phase(second) is Phase.QUEUED
        with bench.ledger.unit_of_work() as session:
            workers.undrain_worker(session, supervisor.name)
        bench.wait_for(second, Phase.RUNNING, Phase.SUCCEEDED)


def test_gpus_are_dealt_out_and_others_see_none(bench: Bench) -> None:
    two, one = bench.submit(**ON_GPUS), bench.submit(seed=1, resources={"device": "gpu"})
    none = bench.submit(seed=2)
    with bench.running(ENDLESS, gpus="5,6,7", queues="cpu,gpu"):
        for job_id in (two, one, none):
            bench.wait_for_step(job_id, 1)
        late = bench.submit(seed=3, **ON_GPUS)
        (worker,) = listed(bench)
        assert (worker.gpus_free, worker.cpu_slots_free) == (0, 0)
        making.cancel(bench.ledger, two)
        bench.wait_for_step(late, 1)
        for job_id in (one, none, late):
            making.cancel(bench.ledger, job_id)
            bench.wait_for(job_id, Phase.CANCELLED)
    assert [gpus(bench, job_id) for job_id in (two, one, none, late)] == ["5,6", "7", "", "5,6"]


def gpus(bench: Bench, job_id: UUID) -> str:
    log = bench.artifact(job_id, "log.txt").decode()
    return log.partition("it sees the GPUs ")[2].splitlines()[0]


def drain(bench: Bench, name: str, how: Drain) -> None:
    until(lambda: bool(listed(bench)))
    with bench.ledger.unit_of_work() as session:
        workers.drain_worker(session, name, how)


def listed(bench: Bench) -> list[WorkerView]:
    with bench.ledger.unit_of_work() as session:
        return workers.list_workers(session)


def ended(bench: Bench, job_id: UUID) -> list[object]:
    rows = bench.rows("SELECT ended_as FROM attempts WHERE job_id = :id ORDER BY number", id=job_id)
    return [value for (value,) in rows]

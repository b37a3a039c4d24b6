"""The worker as a process: killed, stopped, woken, asked to leave."""

import os
import signal
from datetime import datetime
from pathlib import Path
from uuid import UUID

from tests.worker.ledger import making
from tests.worker.supervisor.bench import SHORT_LEASE, Bench, is_running, until
from worker.ledger import Phase

ENDLESS = {"steps": 100_000, "every": 5, "pause": 0.01}


def test_sigkill_of_the_worker_ends_the_whole_tree(bench: Bench) -> None:
    job_id = bench.submit()
    process = bench.spawn({**ENDLESS, "on_term": "ignore", "at": {"*": {"1": "spawn"}}})
    bench.wait_for_step(job_id, 2)
    tree = descendants(process.pid)
    assert len(tree) == 3, "leash, trainer and the child that left the session"
    process.kill()
    process.wait()
    until(lambda: not any(map(is_running, tree)), seconds=5)


def test_sigkill_of_the_leash_ends_the_trainer(bench: Bench) -> None:
    """PR_SET_PDEATHSIG alone: the leash has no time to do anything, the worker cannot either."""
    job_id = bench.submit()
    worker = bench.spawn({**ENDLESS, "on_term": "ignore"})
    bench.wait_for_step(job_id, 1)
    leash, trainer = descendants(worker.pid)
    worker.send_signal(signal.SIGSTOP)
    os.kill(leash, signal.SIGKILL)
    until(lambda: not is_running(trainer), seconds=30)
    worker.send_signal(signal.SIGCONT)
    until(lambda: bool(attempts(bench, job_id)[0][1]))
    assert attempts(bench, job_id)[0] == (1, "trainer_killed")


def test_another_worker_goes_on_from_the_last_checkpoint(bench: Bench) -> None:
    job_id = bench.submit()
    first = bench.spawn(ENDLESS, **SHORT_LEASE, work="first")
    until(lambda: (making.job(bench.ledger, job_id).checkpoint_step or 0) >= 5)
    first.kill()
    published = making.job(bench.ledger, job_id).checkpoint_step or 0
    with bench.running({"steps": published + 3}, **SHORT_LEASE, work="second"):
        bench.wait_for(job_id, Phase.SUCCEEDED)
    assert attempts(bench, job_id)[0] == (1, "worker_lost")
    log = bench.artifact(job_id, "log.txt").decode()
    assert f"starts after step {published}" in log


def test_a_worker_that_slept_for_three_leases_changes_nothing(bench: Bench, tmp_path: Path) -> None:
    job_id = bench.submit()
    gate = tmp_path / "gate"
    script = {"steps": 12, "every": 4, "at": {"1": {"6": f"wait {gate}"}}}
    zombie = bench.spawn(script, **SHORT_LEASE, work="zombie")
    until(lambda: making.job(bench.ledger, job_id).checkpoint_step == 4)
    leash, trainer = descendants(zombie.pid)
    slept_since = now(bench)
    zombie.send_signal(signal.SIGSTOP)
    gate.touch()  # its trainer runs on and has much to tell
    with bench.running(script, **SHORT_LEASE, work="second"):
        bench.wait_for(job_id, Phase.SUCCEEDED)
    until(lambda: not is_running(trainer), seconds=5)  # the leash fences without the supervisor
    until(lambda: (now(bench) - slept_since).total_seconds() > 3)
    before, stored = bench.everything(job_id), files(bench.store.root)
    zombie.send_signal(signal.SIGCONT)
    log = bench.folder / "worker-0.log"
    until(lambda: "attempt.discarded" in log.read_text())
    zombie.terminate()
    assert zombie.wait(10) == 0
    assert bench.everything(job_id) == before
    assert files(bench.store.root) == stored
    assert not is_running(leash)
    assert [number for number, _ in attempts(bench, job_id)] == [1, 2]


def test_stop_means_checkpoint_and_requeue(bench: Bench) -> None:
    job_id = bench.submit()
    process = bench.spawn({"steps": 100_000, "pause": 0.01})
    bench.wait_for_step(job_id, 3)
    tree = descendants(process.pid)
    process.terminate()
    assert process.wait(15) == 0
    job = making.job(bench.ledger, job_id)
    assert job.phase is Phase.QUEUED
    assert attempts(bench, job_id) == [(1, "interrupted")]
    assert not any(map(is_running, tree))
    step = job.checkpoint_step
    assert step is not None
    with bench.running({"steps": step + 1}):
        bench.wait_for(job_id, Phase.SUCCEEDED)
    steps = bench.rows("SELECT step FROM metrics WHERE job_id = :id ORDER BY step", id=job_id)
    assert [number for (number,) in steps] == list(range(1, step + 2))


def test_stop_does_not_wait_for_a_trainer_that_ignores_it(bench: Bench) -> None:
    job_id = bench.submit()
    process = bench.spawn({**ENDLESS, "on_term": "ignore"}, grace_seconds=0.3)
    bench.wait_for_step(job_id, 1)
    process.terminate()
    assert process.wait(15) == 0
    assert bench.phase(job_id) is Phase.QUEUED
    assert attempts(bench, job_id) == [(1, "interrupted")]


def now(bench: Bench) -> datetime:
    [(moment,)] = bench.rows("SELECT clock_timestamp()")
    assert isinstance(moment, datetime)
    return moment


def test_training_does_not_need_the_tracking_server(bench: Bench) -> None:
    job_id = bench.submit()
    process = bench.spawn({"steps": 3}, mlflow_url="http://127.0.0.1:9")
    bench.wait_for(job_id, Phase.SUCCEEDED)
    log = bench.folder / "worker-0.log"
    until(lambda: "tracking.waits" in log.read_text())
    process.terminate()
    assert process.wait(15) == 0


def attempts(bench: Bench, job_id: UUID) -> list[tuple[object, ...]]:
    return bench.rows(
        "SELECT number, ended_as FROM attempts WHERE job_id = :id ORDER BY number", id=job_id
    )


def descendants(pid: int) -> list[int]:
    """Children first, then theirs."""
    found: list[int] = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(path.read_text().rpartition(")")[2].split()[1])
        except (FileNotFoundError, ProcessLookupError):
            continue
        if parent == pid:
            found.append(int(path.parent.name))
    return found + [child for each in found for child in descendants(each)]


def files(root: Path) -> set[Path]:
    return {path for path in root.rglob("*") if path.is_file()}

"""The projection onto a real MLflow server: every point once, whatever fails in between."""

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, Thread

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from kdcore.spec import FailureKind
from tests.worker.ledger import making
from tests.worker.supervisor.bench import Bench, until
from tests.worker.tracking.conftest import Projecting
from tests.worker.tracking.looking import (
    all_runs,
    drain,
    only_run,
    points,
    projected,
    settle,
    started,
    stored_points,
    succeed,
)
from tests.worker.tracking.proxy import EachOnce, Proxy
from tests.worker.tracking.server import MlflowServer
from worker.ledger import Phase
from worker.tracking import job_runs
from worker.tracking import projector as rounds_of
from worker.tracking import runs as server_calls
from worker.tracking.duty import Duty, DutyLost
from worker.tracking.projector import Projector
from worker.tracking.tags import JOB_TAG


@pytest.mark.slow
def test_a_server_that_dies_during_a_run_gets_every_point_once(
    bench: Bench,
    projector: Projector,
    mlflow_server: MlflowServer,
    client: MlflowClient,
    home: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(rounds_of, "ROUND_SECONDS", 0.05)
    monkeypatch.setattr(rounds_of, "BACKOFF_SECONDS_MAX", 0.5)
    job_id = bench.submit()
    gate = bench.folder / "gate"
    script = {"steps": 400, "pause": 0.005, "at": {"1": {"300": f"wait {gate}"}}}
    with bench.running(script), rounds(projector):
        until(lambda: projected(bench, job_id) > 20)
        mlflow_server.kill()
        bench.wait_for_step(job_id, 299)  # training does not notice
        mlflow_server.start()
        gate.touch()
        bench.wait_for(job_id, Phase.SUCCEEDED)
        mlflow_server.wait()
        until(lambda: bench.rows("SELECT 1 FROM jobs WHERE run_closed") == [(1,)])
    run = only_run(client, home, job_id)
    assert points(client, run) == stored_points(bench, job_id)
    assert len(stored_points(bench, job_id)) == 400


@pytest.mark.slow
def test_a_frozen_server_gets_every_point_once(
    bench: Bench,
    projector: Projector,
    mlflow_server: MlflowServer,
    client: MlflowClient,
    home: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It takes connections and says nothing; what it was asked it does when it wakes up."""
    claim = started(bench)
    making.relay(bench.ledger, claim, [making.metric(1, loss=0.5)])
    drain(projector)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    with mlflow_server.frozen():
        for step in (2, 3):
            making.relay(bench.ledger, claim, [making.metric(step, loss=0.5)])
            with pytest.raises(MlflowException):
                projector.project()
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
    succeed(bench, claim)
    settle(projector, bench)
    run = only_run(client, home, claim.job_id)
    assert points(client, run) == stored_points(bench, claim.job_id)


@pytest.mark.slow
def test_every_answer_lost_once_makes_nothing_twice(
    bench: Bench,
    projecting: Projecting,
    mlflow_server: MlflowServer,
    client: MlflowClient,
    home: str,
) -> None:
    loses = EachOnce()
    with Proxy(mlflow_server.url, loses=loses) as proxy:
        claim = started(bench, name="every-answer")
        making.relay(bench.ledger, claim, [making.metric(step, loss=1 / step) for step in (1, 2)])
        succeed(bench, claim)
        making.fail(bench.ledger, making.take(bench.ledger), FailureKind.CODE_ERROR)
        settle(projecting(proxy.url), bench)
    lost = {path.rpartition("/")[2] for _, path in loses.lost}
    made = {"create", "log-batch", "log-inputs", "update", "alias", "model.json"}
    assert lost >= made, lost
    assert len(all_runs(client, home)) == 3  # the experiment, its training and its verdict
    run = only_run(client, home, claim.job_id)
    assert points(client, run) == stored_points(bench, claim.job_id)
    assert len(client.search_model_versions("name = 'every-answer-model'")) == 1


def test_a_slow_server_is_given_less_at_a_time(
    bench: Bench,
    projecting: Projecting,
    mlflow_server: MlflowServer,
    client: MlflowClient,
    home: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    claim = started(bench)
    values = {f"val/iou/class {number:03}": number / 300 for number in range(300)}
    for step in range(1, 5):
        making.relay(bench.ledger, claim, [making.metric(step, **values)])
    projecting(mlflow_server.url, duty=Duty(bench.ledger, seconds=0.1)).project()
    assert projected(bench, claim.job_id) == 1000
    making.relay(bench.ledger, claim, [making.metric(5, **values)])
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "2")
    with Proxy(mlflow_server.url, bytes_per_second=15_000) as proxy:
        slow = projecting(proxy.url, duty=Duty(bench.ledger, seconds=0.1))
        with pytest.raises(MlflowException):  # 500 points in 45 kB
            slow.project()
        settle(slow, bench)
    run = only_run(client, home, claim.job_id)
    assert len(points(client, run)) == 1500
    assert points(client, run) == stored_points(bench, claim.job_id)


def test_a_crash_after_the_server_took_the_points_adds_none(
    bench: Bench,
    projecting: Projecting,
    mlflow_server: MlflowServer,
    client: MlflowClient,
    home: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    crashing = projecting(mlflow_server.url, duty=Duty(bench.ledger, seconds=0.5))
    claim = started(bench)
    making.relay(bench.ledger, claim, [making.metric(1, loss=0.1), making.metric(2, loss=0.3)])
    with monkeypatch.context() as patch:
        patch.setattr(job_runs, "mark_projected", _crash)
        with pytest.raises(KeyboardInterrupt):
            crashing.project()
    making.relay(bench.ledger, claim, [making.metric(3, loss=1 / 3)])
    other = projecting(mlflow_server.url)
    until(lambda: takes_over(other))  # once the duty of the one that is gone has run out
    drain(other)
    run = only_run(client, home, claim.job_id)
    assert points(client, run) == stored_points(bench, claim.job_id)
    assert projected(bench, claim.job_id) == 3
    making.relay(bench.ledger, claim, [making.metric(4, loss=0.25)])
    with pytest.raises(DutyLost):
        crashing.project()  # it was only stopped, and wakes up now


def test_a_run_made_twice_is_one_in_the_end(
    bench: Bench, projector: Projector, client: MlflowClient, home: str
) -> None:
    claim = started(bench)
    making.relay(bench.ledger, claim, [making.metric(1, loss=0.1)])
    drain(projector)
    standing = only_run(client, home, claim.job_id)
    client.create_run(standing.info.experiment_id, tags={JOB_TAG: str(claim.job_id)})
    making.fail(bench.ledger, claim)
    drain(projector)
    left = only_run(client, home, claim.job_id)
    assert left.info.run_id == standing.info.run_id
    assert left.info.status == "FAILED"


def test_a_run_deleted_on_the_server_does_not_hold_up_the_others(
    bench: Bench, projector: Projector, client: MlflowClient, home: str
) -> None:
    claim = started(bench)
    making.relay(bench.ledger, claim, [making.metric(1, loss=0.1)])
    drain(projector)
    client.delete_run(only_run(client, home, claim.job_id).info.run_id)
    making.relay(bench.ledger, claim, [making.metric(2, loss=0.1)])
    drain(projector)
    assert projected(bench, claim.job_id) == 2
    succeed(bench, claim)
    settle(projector, bench)


def test_a_point_that_is_refused_costs_no_other(
    bench: Bench,
    projector: Projector,
    client: MlflowClient,
    home: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(server_calls, "accepted_name", lambda name: name)
    claim = started(bench)
    values = {f"m{number}": 0.5 for number in range(20)} | {"a//b": 0.5}
    making.relay(bench.ledger, claim, [making.metric(1, **values)])
    drain(projector)
    assert projected(bench, claim.job_id) == 21
    assert len(points(client, only_run(client, home, claim.job_id))) == 20


def test_a_row_that_cannot_be_handled_does_not_hold_up_the_others(
    bench: Bench, projector: Projector, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad, good = started(bench), started(bench, name="other", seeds=[1])
    for claim in (bad, good):
        making.relay(bench.ledger, claim, [making.metric(1, loss=0.1)])
    run_tags = job_runs.run_tags

    def tags(run: job_runs.PendingRun, *given: object, **named: object) -> dict[str, str]:
        if run.id == bad.job_id:
            raise ValueError("of a later version, say")
        return run_tags(run, *given, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(job_runs, "run_tags", tags)
    drain(projector)
    assert (projected(bench, bad.job_id), projected(bench, good.job_id)) == (0, 1)
    monkeypatch.undo()
    settle(projector, bench)
    assert projected(bench, bad.job_id) == 1


def test_many_points_go_in_batches(
    bench: Bench, projector: Projector, client: MlflowClient, home: str
) -> None:
    claim = started(bench)
    values = {f"val/iou/{number} {{rock}}": number / 300 for number in range(300)}
    for step in range(1, 5):
        making.relay(bench.ledger, claim, [making.metric(step, **values)])
    assert projector.project() is True
    assert projected(bench, claim.job_id) == 1000
    drain(projector)
    run = only_run(client, home, claim.job_id)
    assert len(points(client, run)) == 1200
    assert projected(bench, claim.job_id) == 1200


def test_one_projects_at_a_time(
    bench: Bench, projecting: Projecting, mlflow_server: MlflowServer
) -> None:
    claim = started(bench)
    making.relay(bench.ledger, claim, [making.metric(1, loss=0.1)])
    first, second = projecting(mlflow_server.url), projecting(mlflow_server.url)
    drain(first)
    assert projected(bench, claim.job_id) == 1
    making.relay(bench.ledger, claim, [making.metric(2, loss=0.1)])
    with pytest.raises(DutyLost):
        second.project()
    assert projected(bench, claim.job_id) == 1
    stopped = Event()
    stopped.set()
    first.run(stopped)  # leaves the duty to whoever comes
    drain(second)
    assert projected(bench, claim.job_id) == 2


def test_a_server_that_does_not_answer_is_left_alone_soon(
    bench: Bench, projecting: Projecting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    claim = started(bench)
    making.relay(bench.ledger, claim, [making.metric(1, loss=0.1)])
    with socket.create_server(("127.0.0.1", 0)) as silent:
        projector = projecting(f"http://127.0.0.1:{silent.getsockname()[1]}")
        began = time.monotonic()
        with pytest.raises(MlflowException):
            projector.project()
        assert time.monotonic() - began < 5
    assert projected(bench, claim.job_id) == 0


@contextmanager
def rounds(projector: Projector) -> Iterator[None]:
    stopped = Event()
    thread = Thread(target=projector.run, args=(stopped,))
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join()


def takes_over(projector: Projector) -> bool:
    try:
        projector.project()
    except DutyLost:
        return False
    return True


def _crash(*_: object, **__: object) -> None:
    raise KeyboardInterrupt  # nothing on the way catches it

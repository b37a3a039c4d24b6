"""The projection onto a real MLflow server: every point once, whatever fails in between."""

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event, Thread
from typing import Any
from uuid import UUID

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run, ViewType
from mlflow.exceptions import MlflowException

from kdcore.spec import FailureKind, Outcome
from tests.worker.ledger import making
from tests.worker.supervisor.bench import Bench, until
from tests.worker.tracking.server import MlflowServer
from worker.ledger import Phase
from worker.ledger.jobs import Claim
from worker.tracking import projector as projecting
from worker.tracking.names import accepted_name, flattened
from worker.tracking.projector import Projector
from worker.tracking.runs import JOB_TAG


@pytest.fixture
def home(request: pytest.FixtureRequest) -> str:
    """An MLflow experiment for each test."""
    return str(request.node.name)


@pytest.fixture
def client(mlflow_server: MlflowServer) -> MlflowClient:
    return MlflowClient(tracking_uri=mlflow_server.url)


@pytest.fixture
def projector(bench: Bench, mlflow_server: MlflowServer, home: str) -> Projector:
    return Projector(mlflow_server.url, home, ledger=bench.ledger, store=bench.store)


def test_runs_hold_what_the_ledger_holds(
    bench: Bench, projector: Projector, client: MlflowClient, home: str
) -> None:
    making.register(bench.ledger)
    making.submit(bench.ledger, making.training(seeds=[3], name="plain-3"))
    claim = making.take(bench.ledger)
    job_id = claim.job_id
    making.relay(bench.ledger, claim, [making.metric(step, loss=1 / step) for step in (1, 2, 3)])
    succeed(bench, claim)
    assert projector.project() is False
    run = only_run(client, home, job_id)
    assert run.info.status == "FINISHED"
    assert run.data.tags["stillhouse.key"] == "model-3"
    assert run.data.tags["stillhouse.role"] == "model"
    assert run.data.tags["stillhouse.dataset"] == making.job(bench.ledger, job_id).spec["dataset"]
    assert run.data.params["train.steps"] == "20"
    assert run.data.params["seed"] == "3"
    assert points(client, run) == stored_points(bench, job_id)
    assert [file.path for file in client.list_artifacts(run.info.run_id, "model")] == [
        "model/model.json"
    ]
    parent = client.get_run(run.data.tags["mlflow.parentRunId"])
    assert parent.info.run_name == "plain-3"
    assert parent.info.status == "RUNNING"  # the verdict is still to come
    making.fail(bench.ledger, making.take(bench.ledger), FailureKind.CODE_ERROR)
    projector.project()
    assert client.get_run(parent.info.run_id).info.status == "FAILED"
    assert bench.rows("SELECT count(*) FROM jobs WHERE NOT run_closed") == [(0,)]


@pytest.mark.slow
def test_a_server_that_dies_during_a_run_gets_every_point_once(
    bench: Bench,
    projector: Projector,
    mlflow_server: MlflowServer,
    client: MlflowClient,
    home: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(projecting, "ROUND_SECONDS", 0.05)
    monkeypatch.setattr(projecting, "BACKOFF_SECONDS_MAX", 0.5)
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


def test_a_crash_after_the_server_took_the_points_adds_none(
    bench: Bench,
    projector: Projector,
    client: MlflowClient,
    home: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    making.register(bench.ledger)
    making.submit(bench.ledger, making.training())
    claim = making.take(bench.ledger)
    making.relay(bench.ledger, claim, [making.metric(1, loss=0.1), making.metric(2, loss=0.3)])
    with monkeypatch.context() as patch:
        patch.setattr(projecting, "mark_projected", _crash)
        with pytest.raises(RuntimeError, match="crashed"):
            projector.project()
    making.relay(bench.ledger, claim, [making.metric(3, loss=1 / 3)])
    projector.project()
    run = only_run(client, home, claim.job_id)
    assert points(client, run) == stored_points(bench, claim.job_id)
    assert projected(bench, claim.job_id) == 3


def test_a_run_whose_making_was_not_answered_is_found_again(
    bench: Bench,
    projector: Projector,
    client: MlflowClient,
    home: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    making.register(bench.ledger)
    making.submit(bench.ledger, making.training())
    claim = making.take(bench.ledger)
    making.relay(bench.ledger, claim, [making.metric(1, loss=0.1)])
    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "create_run", _without_answer(MlflowClient.create_run))
        for _ in range(2):  # the parent's, then the job's
            with pytest.raises(MlflowException, match="timeout"):
                projector.project()
    projector.project()
    run = only_run(client, home, claim.job_id)
    assert points(client, run) == stored_points(bench, claim.job_id)
    assert len(all_runs(client, home)) == 2


def test_a_run_made_twice_is_one_in_the_end(
    bench: Bench, projector: Projector, client: MlflowClient, home: str
) -> None:
    making.register(bench.ledger)
    making.submit(bench.ledger, making.training())
    claim = making.take(bench.ledger)
    making.relay(bench.ledger, claim, [making.metric(1, loss=0.1)])
    projector.project()
    standing = only_run(client, home, claim.job_id)
    client.create_run(standing.info.experiment_id, tags={JOB_TAG: str(claim.job_id)})
    making.fail(bench.ledger, claim)
    projector.project()
    left = only_run(client, home, claim.job_id)
    assert left.info.run_id == standing.info.run_id
    assert left.info.status == "FAILED"


def test_a_run_deleted_on_the_server_does_not_hold_up_the_others(
    bench: Bench, projector: Projector, client: MlflowClient, home: str
) -> None:
    making.register(bench.ledger)
    making.submit(bench.ledger, making.training())
    claim = making.take(bench.ledger)
    making.relay(bench.ledger, claim, [making.metric(1, loss=0.1)])
    projector.project()
    client.delete_run(only_run(client, home, claim.job_id).info.run_id)
    making.relay(bench.ledger, claim, [making.metric(2, loss=0.1)])
    projector.project()
    assert projected(bench, claim.job_id) == 2


def test_a_thousand_points_are_a_full_round(
    bench: Bench, projector: Projector, client: MlflowClient, home: str
) -> None:
    making.register(bench.ledger)
    making.submit(bench.ledger, making.training())
    claim = making.take(bench.ledger)
    values = {f"val/iou/{number} {{rock}}": number / 300 for number in range(300)}
    for step in range(1, 5):
        making.relay(bench.ledger, claim, [making.metric(step, **values)])
    assert projector.project() is True
    assert projector.project() is False
    run = only_run(client, home, claim.job_id)
    assert len(points(client, run)) == 1200
    assert projected(bench, claim.job_id) == 1200


def test_one_projects_at_a_time(bench: Bench, projector: Projector) -> None:
    making.register(bench.ledger)
    making.submit(bench.ledger, making.training())
    claim = making.take(bench.ledger)
    making.relay(bench.ledger, claim, [making.metric(1, loss=0.1)])
    with bench.ledger.alone(projecting.PURPOSE) as held:
        assert held
        assert projector.project() is False
        assert projected(bench, claim.job_id) == 0
    projector.project()
    assert projected(bench, claim.job_id) == 1


def test_a_server_that_does_not_answer_is_left_alone_soon(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    making.register(bench.ledger)
    making.submit(bench.ledger, making.training())
    claim = making.take(bench.ledger)
    making.relay(bench.ledger, claim, [making.metric(1, loss=0.1)])
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        projector = Projector(url, "home", ledger=bench.ledger, store=bench.store)
        began = time.monotonic()
        with pytest.raises(MlflowException):
            projector.project()
        assert time.monotonic() - began < 5
    assert projected(bench, claim.job_id) == 0


@pytest.mark.parametrize(
    "name", ["val/iou/Rocks (big)", "été, hiver", "/a", "a//b", "../a", "a/../b", "x" * 300, "."]
)
def test_refused_names_become_others(name: str) -> None:
    from mlflow.utils.validation import _validate_metric_name

    clean = accepted_name(name)
    _validate_metric_name(clean)  # type: ignore[no-untyped-call]
    assert len(clean) <= 250
    assert accepted_name("val/iou/rock wall-1.0:a") == "val/iou/rock wall-1.0:a"


def test_similar_names_stay_apart() -> None:
    assert len({accepted_name(name) for name in ("a(b", "a)b", "a_b", "a,b")}) == 4


def test_specs_are_flattened() -> None:
    spec = {"seed": 1, "train": {"size": [64, 64], "ema": None, "precision": "auto"}}
    assert flattened(spec) == {"seed": "1", "train.size": "[64, 64]", "train.precision": "auto"}


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


def succeed(bench: Bench, claim: Claim) -> None:
    """With files that are in the store."""
    paths = list(making.MODEL_FILES)
    made = bench.folder / "made"
    made.write_text("{}")
    files = dict.fromkeys(paths, bench.store.put(made))
    making.end(bench.ledger, claim, Outcome(status="succeeded", step=3), files=files)


def projected(bench: Bench, job_id: UUID) -> int:
    [(count,)] = bench.rows(
        "SELECT count(*) FROM metrics WHERE job_id = :id AND projected_at IS NOT NULL", id=job_id
    )
    return int(count)


def stored_points(bench: Bench, job_id: UUID) -> list[tuple[Any, ...]]:
    return bench.rows(
        "SELECT key, step, value, floor(extract(epoch FROM at) * 1000)::bigint FROM metrics "
        "WHERE job_id = :id ORDER BY key, step",
        id=job_id,
    )


def points(client: MlflowClient, run: Run) -> list[tuple[Any, ...]]:
    return sorted(
        (point.key, point.step, point.value, point.timestamp)
        for key in run.data.metrics
        for point in client.get_metric_history(run.info.run_id, key)
    )


def only_run(client: MlflowClient, home: str, job_id: UUID) -> Run:
    [run] = [run for run in all_runs(client, home) if run.data.tags.get(JOB_TAG) == str(job_id)]
    return run


def all_runs(client: MlflowClient, home: str) -> list[Run]:
    experiment = client.get_experiment_by_name(home)
    assert experiment is not None
    return list(client.search_runs([experiment.experiment_id], run_view_type=ViewType.ACTIVE_ONLY))


def _crash(*_: object, **__: object) -> None:
    raise RuntimeError("crashed")


def _without_answer(create: Callable[..., Run]) -> Callable[..., Run]:
    def creates(*given: Any, **named: Any) -> Run:
        create(*given, **named)
        raise MlflowException("timeout")

    return creates

"""What people see on the server: experiments above jobs, with where everything comes from."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from requests import HTTPError, Response

from kdcore.spec import FailureKind
from tests.worker.ledger import making
from tests.worker.supervisor.bench import ROOT, Bench
from tests.worker.tracking.conftest import Projecting
from tests.worker.tracking.looking import (
    all_runs,
    drain,
    only_run,
    parent,
    points,
    settle,
    started,
    stored_points,
    succeed,
)
from tests.worker.tracking.server import MlflowServer
from worker.ledger import experiments
from worker.ledger.builds import note_build
from worker.tracking import files as sending
from worker.tracking import job_runs
from worker.tracking.projector import Projector
from worker.tracking.runs import Runs

BUILD = {"version": "1.2.3", "git_sha": "a" * 40, "lock_sha256": "b" * 64, "image": "sha256:c"}


def test_runs_hold_what_the_ledger_holds(
    bench: Bench, projector: Projector, client: MlflowClient, home: str
) -> None:
    claim = started(bench, seeds=[3], name="plain-3")
    note(bench, claim)
    making.relay(bench.ledger, claim, [making.metric(step, loss=1 / step) for step in (1, 2, 3)])
    succeed(bench, claim)
    settle(projector, bench)
    run = only_run(client, home, claim.job_id)
    job = making.job(bench.ledger, claim.job_id)
    assert run.info.status == "FINISHED"
    assert job.finished_at is not None
    assert run.info.end_time == int(job.finished_at.timestamp() * 1000)
    assert run.data.params["train.steps"] == "20"
    assert run.data.params["seed"] == "3"
    assert points(client, run) == stored_points(bench, claim.job_id)
    assert run.data.metrics["best/val/miou"] == 0.5
    (given,) = run.inputs.dataset_inputs
    assert (given.dataset.name, given.dataset.digest) == ("nuclei@1", job.spec["dataset"][:36])
    expected = {
        "stillhouse.experiment_ids": str(job.experiment_ids[0]),
        "stillhouse.key": "model-3",
        "stillhouse.role": "model",
        "stillhouse.dataset": job.spec["dataset"],
        "stillhouse.dataset_revision": "nuclei@1",
        "stillhouse.attempts": "1",
        "stillhouse.phase": "succeeded",
        "stillhouse.build.lock_sha256": "b" * 64,
        "stillhouse.build.image": "sha256:c",
        "mlflow.source.git.commit": "a" * 40,
        "mlflow.user": making.OWNER,
    }
    assert expected.items() <= run.data.tags.items()


def test_an_experiment_has_a_run_above_those_of_its_jobs(
    bench: Bench, projector: Projector, client: MlflowClient, home: str
) -> None:
    claim = started(bench, name="plain-3")
    succeed(bench, claim)
    settle(projector, bench)
    run = only_run(client, home, claim.job_id)
    above = client.get_run(run.data.tags["mlflow.parentRunId"])
    assert above.info.run_name == "plain-3"
    assert above.info.status == "RUNNING"  # the verdict is still to come
    assert above.data.params["train.steps"] == "20"
    assert f"/runs/{run.info.run_id}" in above.data.tags["mlflow.note.content"]
    making.fail(bench.ledger, making.take(bench.ledger), FailureKind.CODE_ERROR)
    settle(projector, bench)
    above = client.get_run(above.info.run_id)
    assert above.info.status == "FAILED"
    assert "[verdict]" in above.data.tags["mlflow.note.content"]
    failed = next(run for run in all_runs(client, home) if run.info.run_name == "plain-3/verdict")
    assert failed.data.tags["stillhouse.reason"] == "code_error"
    assert failed.data.tags["stillhouse.message"] == "it broke"


def test_a_distilled_model_names_its_teachers(
    bench: Bench, projector: Projector, client: MlflowClient, home: str
) -> None:
    making.register(bench.ledger)
    making.submit(bench.ledger, making.distillation(seeds=[0]))
    teacher = making.take(bench.ledger)
    succeed(bench, teacher)
    claims = [making.take(bench.ledger), making.take(bench.ledger)]
    (distilled,) = [claim for claim in claims if claim.inputs]
    settle(projector, bench)
    drain(projector)
    (digest,) = bench.rows(
        "SELECT digest FROM model_versions WHERE job_id = :id", id=teacher.job_id
    )
    making.relay(bench.ledger, distilled, [making.metric(1, loss=1.0)])
    drain(projector)
    tags = only_run(client, home, distilled.job_id).data.tags
    assert tags["stillhouse.input.teacher-big"] == digest[0]
    assert tags["stillhouse.input.teacher-big.job_id"] == str(teacher.job_id)


def test_a_shared_job_has_one_run_with_all_its_experiments(
    bench: Bench, projector: Projector, client: MlflowClient, home: str
) -> None:
    claim = started(bench, name="first")
    making.relay(bench.ledger, claim, [making.metric(1, loss=1.0)])
    drain(projector)
    second = making.submit(bench.ledger, making.training(name="second"))
    succeed(bench, claim)
    settle(projector, bench)
    run = only_run(client, home, claim.job_id)
    ids = making.job(bench.ledger, claim.job_id).experiment_ids
    assert set(run.data.tags["stillhouse.experiment_ids"].split(",")) == set(map(str, ids))
    assert run.info.run_name == "first/model-0"
    other = parent(client, home, second)
    assert other.info.run_name == "second"
    assert run.info.run_id in other.data.tags["mlflow.note.content"]
    third = making.submit(bench.ledger, making.training(name="third"))  # all of it is done or runs
    settle(projector, bench)
    assert parent(client, home, third).info.run_name == "third"


def test_a_cancelled_experiment_ends_though_nothing_else_runs(
    bench: Bench, projector: Projector, client: MlflowClient, home: str
) -> None:
    claim = started(bench)
    succeed(bench, claim)
    settle(projector, bench)
    (id,) = making.job(bench.ledger, claim.job_id).experiment_ids
    assert parent(client, home, id).info.status == "RUNNING"
    with bench.ledger.unit_of_work() as session:
        experiments.cancel_experiment(session, owner=making.OWNER, id=id)
    settle(projector, bench)
    assert parent(client, home, id).info.status == "KILLED"


def test_an_experiment_goes_on_when_a_job_takes_the_place_of_a_failed_one(
    bench: Bench, projector: Projector, client: MlflowClient, home: str
) -> None:
    claim = started(bench)
    making.fail(bench.ledger, claim)
    settle(projector, bench)
    (id,) = making.job(bench.ledger, claim.job_id).experiment_ids
    assert parent(client, home, id).info.status == "FAILED"
    making.submit(bench.ledger, making.training(name="other"), force=True)
    again = making.take(bench.ledger)
    bench.rows(
        "UPDATE experiment_jobs SET job_id = :job WHERE experiment_id = :id AND key = 'model-0' "
        "RETURNING key",
        job=again.job_id,
        id=id,
    )
    making.relay(bench.ledger, again, [making.metric(1, loss=1.0)])
    drain(projector)
    assert parent(client, home, id).info.status == "RUNNING"
    succeed(bench, again)
    settle(projector, bench)
    run = only_run(client, home, again.job_id)
    assert run.info.run_id in parent(client, home, id).data.tags["mlflow.note.content"]


def test_owners_may_have_homes_of_their_own(
    bench: Bench,
    projecting: Projecting,
    mlflow_server: MlflowServer,
    client: MlflowClient,
    home: str,
) -> None:
    claim = started(bench)
    drain(projecting(mlflow_server.url, experiment=f"{home}/{{owner}}"))
    making.relay(bench.ledger, claim, [making.metric(1, loss=1.0)])
    assert len(all_runs(client, f"{home}/{making.OWNER}")) == 1


def test_a_home_that_was_deleted_is_brought_back(
    bench: Bench, projector: Projector, client: MlflowClient, home: str
) -> None:
    client.delete_experiment(client.create_experiment(home))
    claim = started(bench)
    making.relay(bench.ledger, claim, [making.metric(1, loss=1.0)])
    drain(projector)
    assert only_run(client, home, claim.job_id).data.metrics == {"loss": 1.0}


def test_small_files_are_copied_and_others_linked(
    bench: Bench,
    projector: Projector,
    client: MlflowClient,
    home: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sending, "COPIED_BYTES_MAX", 100)
    claim = started(bench)
    succeed(bench, claim, weights=b"w" * 1000)
    settle(projector, bench)
    run = only_run(client, home, claim.job_id)
    shown = [file.path for file in client.list_artifacts(run.info.run_id, "model")]
    assert shown == ["model/model.json"]
    (weights,) = bench.rows(
        "SELECT sha256 FROM artifacts WHERE job_id = :id AND size = 1000", id=claim.job_id
    )
    link = run.data.tags["stillhouse.file.model/model.safetensors"]
    assert link == f"s3://bucket/prefix/sha256/{weights[0][:2]}/{weights[0]}"


def test_files_wait_for_a_storage_that_is_away(
    bench: Bench,
    projector: Projector,
    client: MlflowClient,
    home: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Runs, "log_file", _answers(503))
    claim = started(bench)
    making.relay(bench.ledger, claim, [making.metric(1, loss=1.0)])
    succeed(bench, claim)
    drain(projector)
    assert only_run(client, home, claim.job_id).data.metrics["loss"] == 1.0  # points do not wait
    assert bench.rows("SELECT run_closed FROM jobs WHERE attempt > 0") == [(False,)]
    monkeypatch.undo()
    settle(projector, bench)
    run = only_run(client, home, claim.job_id)
    assert len(client.list_artifacts(run.info.run_id, "model")) == 2


@pytest.mark.parametrize("why", ["refused", "patience"])
def test_files_that_will_never_come_are_linked(
    bench: Bench,
    projector: Projector,
    client: MlflowClient,
    home: str,
    monkeypatch: pytest.MonkeyPatch,
    why: str,
) -> None:
    monkeypatch.setattr(Runs, "log_file", _answers(404 if why == "refused" else 503))
    if why == "patience":
        monkeypatch.setattr(job_runs, "FILES_PATIENCE_SECONDS", 0.0)
    claim = started(bench)
    succeed(bench, claim)
    settle(projector, bench)
    run = only_run(client, home, claim.job_id)
    assert "stillhouse.file.model/model.json" in run.data.tags
    assert run.info.status == "FINISHED"


def test_a_run_whose_making_was_not_answered_is_found_again(
    bench: Bench,
    projector: Projector,
    client: MlflowClient,
    home: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    claim = started(bench)
    making.relay(bench.ledger, claim, [making.metric(1, loss=0.1)])
    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "create_run", _without_answer(MlflowClient.create_run))
        for _ in range(2):  # the experiment's, then the job's
            with pytest.raises(MlflowException, match="timeout"):
                projector.project()
    drain(projector)
    assert len(all_runs(client, home)) == 2
    assert points(client, only_run(client, home, claim.job_id)) == stored_points(
        bench, claim.job_id
    )


def test_a_server_that_lost_everything_gets_it_again(
    bench: Bench,
    projecting: Projecting,
    mlflow_server: MlflowServer,
    client: MlflowClient,
    home: str,
) -> None:
    claim = started(bench, name="lost")
    making.relay(bench.ledger, claim, [making.metric(step, loss=1 / step) for step in (1, 2)])
    succeed(bench, claim)
    projector = projecting(mlflow_server.url)
    settle(projector, bench)
    for run in all_runs(client, home):
        client.delete_run(run.info.run_id)
    client.delete_registered_model("lost-model")
    environment = {**os.environ, "KD_DATABASE_URL": bench.database_url}
    said = subprocess.run(
        [sys.executable, "-m", "worker.tracking", "anew"],
        cwd=ROOT, env=environment, check=True, capture_output=True,
    )  # fmt: skip
    assert json.loads(said.stdout)["points"] == 2
    settle(projector, bench)
    run = only_run(client, home, claim.job_id)
    assert points(client, run) == stored_points(bench, claim.job_id)
    assert run.info.status == "FINISHED"
    assert client.get_model_version("lost-model", "1").run_id == run.info.run_id


def note(bench: Bench, claim: making.jobs.Claim) -> None:
    with bench.ledger.unit_of_work() as session:
        note_build(session, job_id=claim.job_id, attempt=claim.attempt, build=BUILD)


def _answers(status: int) -> Callable[..., None]:
    def log_file(runs: Runs, run_id: str, file: Path, folder: str) -> None:
        response = Response()
        response.status_code = status
        raise HTTPError("no", response=response)

    return log_file


def _without_answer(create: Callable[..., Any]) -> Callable[..., Any]:
    def creates(*given: Any, **named: Any) -> Any:
        create(*given, **named)
        raise MlflowException("timeout")

    return creates

"""The whole cluster on a real Docker engine: `make test-compose`. The tests go from up to down."""

from collections import Counter
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import httpx
import pytest
import yaml

from tests.compose.stack import ROOT, Stack, until

pytestmark = [pytest.mark.compose, pytest.mark.timeout(2400)]

HEALTHY_SECONDS = 60.0
JOBS_SECONDS = 1200.0
CHECKPOINT_EVERY = 20
STEPS = 500
"""Of the teacher; the student has half of them. Long enough for a restart of every service."""
TRAIN = {
    "size": [64, 64], "batch": 8, "evaluate_every": 50, "checkpoint_every": CHECKPOINT_EVERY,
}  # fmt: skip
ENDED = ("succeeded", "failed", "cancelled")


@dataclass(frozen=True)
class Trial:
    """An experiment during which every service was restarted once."""

    experiment: str
    lost_steps: int
    """By the restart of the worker; not above zero if the last checkpoint was that of the end."""


@pytest.fixture(scope="module")
def seconds_up(stack: Stack) -> float:
    return stack.up()


@pytest.fixture(scope="module")
def up(stack: Stack, seconds_up: float) -> Stack:
    return stack


@pytest.fixture(scope="module")
def trial(up: Stack) -> Trial:
    lost = 0
    with up.api() as api:
        experiment = submit(api, recipe())
        for service in running_services(up):
            steps = steps_done(api, experiment)
            until(lambda: steps_done(api, experiment) > steps, seconds=180, what="progress")  # noqa: B023
            assert phase(api, experiment) not in ENDED, "over before every service was restarted"
            if service == "worker":
                lost = restart_worker(up, api, experiment)
            else:
                up.restart(service)
        until(lambda: phase(api, experiment) in ENDED, seconds=JOBS_SECONDS, what="the experiment")
    return Trial(experiment, lost)


def test_is_healthy_within_a_minute(seconds_up: float) -> None:
    assert seconds_up <= HEALTHY_SECONDS


def test_containers_are_what_the_file_says(up: Stack) -> None:
    for container in up.containers():
        host = container["HostConfig"]
        assert host["ReadonlyRootfs"]
        assert host["CapDrop"] == ["ALL"]
        assert host["Init"]
        assert host["Memory"] > 0
        assert host["PidsLimit"] > 0


def test_processes_have_no_rights(up: Stack) -> None:
    for service in running_services(up):
        status = dict(
            line.split(":", 1)
            for line in up.compose("exec", "-T", service, "cat", "/proc/1/status").splitlines()
        )
        assert int(status["CapEff"], 16) == int(status["CapBnd"], 16) == 0, service
        assert status["NoNewPrivs"].strip() == "1", service
        assert "0" not in status["Uid"].split(), service


def test_the_services_image_holds_no_torch(up: Stack) -> None:
    code = "import importlib.util as u; print(u.find_spec('torch'), u.find_spec('pip'))"
    assert up.compose("exec", "-T", "api", "python", "-c", code).split()[0] == "None"


def test_the_broker_refuses_to_be_emptied(up: Stack) -> None:
    ask = ("exec", "-T", "redis", "redis-cli", "--user", "stillhouse")
    assert up.compose(*ask, "ping").strip() == "PONG"
    assert "NOPERM" in up.compose(*ask, "flushall")
    assert "NOPERM" in up.compose(*ask, "config", "set", "appendonly", "no")


def test_an_experiment_ends_well_whatever_restarts(up: Stack, trial: Trial) -> None:
    with up.api() as api:
        for job in jobs(api, trial.experiment):
            assert job["phase"] == "succeeded", (job["key"], job["message"], job["failure"])
        verdict = api.get(f"/comparisons/{trial.experiment}").json()["verdict"]
    assert {one["role"] for one in verdict["contestants"]} == {"teacher", "baseline", "distilled"}


def test_a_restarted_worker_loses_no_more_than_an_interval(trial: Trial) -> None:
    assert trial.lost_steps <= CHECKPOINT_EVERY


def test_mlflow_has_every_point_once(up: Stack, trial: Trial) -> None:
    with up.api() as api, up.mlflow() as mlflow:
        fits = [job for job in jobs(api, trial.experiment) if job["kind"] == "fit"]
        assert len(fits) == 3
        for job in fits:
            points = api.get(f"/jobs/{job['id']}/metrics").json()["items"]
            expected = Counter((each["key"], each["step"], each["value"]) for each in points)
            assert expected
            run = api.get(f"/jobs/{job['id']}").json()["mlflow_run_id"]
            until(
                lambda: tracked(mlflow, run, {key for key, *_ in expected}) == expected,  # noqa: B023
                seconds=120,
                what=f"the points of {job['key']}",
            )


def test_files_are_in_the_object_store(up: Stack, trial: Trial) -> None:
    until(
        lambda: any(key.endswith("report/verdict.html") for key in up.objects("mlflow")),
        seconds=120,
        what="the report on MLflow",
    )
    with up.api() as api:
        known = {
            file["sha256"]: file["size"]
            for job in jobs(api, trial.experiment)
            for file in api.get(f"/jobs/{job['id']}/artifacts").json()["items"]
        }
    stored = {key.rpartition("/")[2]: content for key, content in up.objects("stillhouse").items()}
    for digest, content in stored.items():
        assert sha256(content).hexdigest() == digest
    assert known.items() <= {digest: len(content) for digest, content in stored.items()}.items()


def test_a_job_starts_without_the_broker(up: Stack, trial: Trial) -> None:
    up.compose("stop", "redis")
    with up.api() as api:
        experiment = submit(api, {**recipe(), "name": "without-redis"}, force=True)
        until(lambda: phase(api, experiment) == "running", seconds=20, what="the claim")
        api.post(f"/experiments/{experiment}/cancel")
        until(lambda: phase(api, experiment) in ENDED, seconds=60, what="the cancellation")
    up.compose("start", "redis")
    until(lambda: up.health("redis") == ["healthy"], seconds=60, what="redis")


def test_several_workers(up: Stack, trial: Trial) -> None:
    up.up("--scale", "worker=2")
    assert up.health("worker") == ["healthy", "healthy"]
    seats = up.compose("exec", "-T", "worker", "ls", "/runs").split()
    assert {"0", "1"} <= set(seats)
    up.up("--scale", "worker=1")


def test_everything_is_there_after_down_and_up(up: Stack, trial: Trial) -> None:
    up.compose("down")
    assert up.compose("ps", "--all", "--quiet") == ""
    up.up()
    with up.api() as api:
        assert phase(api, trial.experiment) == "succeeded"
        comparison = api.get(f"/comparisons/{trial.experiment}").json()
        for file in comparison["artifacts"]:
            content = api.get(f"/jobs/{comparison['job_id']}/artifacts/{file['path']}").content
            assert sha256(content).hexdigest() == file["sha256"], file["path"]
    with up.mlflow() as mlflow:
        found = mlflow.post("/runs/search", json={"experiment_ids": ["1"]}).json()
    assert found["runs"]


def recipe() -> dict[str, Any]:
    """The nuclei demo with small images and one seed."""
    demo: dict[str, Any] = yaml.safe_load((ROOT / "examples/nuclei/distil.yaml").read_text())
    teacher = demo["teachers"][0]["train"]
    teacher["train"] = {**teacher["train"], **TRAIN, "steps": STEPS}
    student = {**demo["train"], **TRAIN, "steps": STEPS // 2}
    return {**demo, "dataset": "nuclei", "train": student, "seeds": [0]}


def submit(api: httpx.Client, experiment: dict[str, Any], *, force: bool = False) -> str:
    """The id of the experiment."""
    source = yaml.safe_load((ROOT / "examples/nuclei/dataset.yaml").read_text())
    answer = api.post("/datasets", json={**source, "root": "nuclei"})
    assert answer.status_code in (200, 201), answer.text
    answer = api.post("/experiments", json=experiment, params={"force": "true"} if force else {})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def running_services(up: Stack) -> list[str]:
    return [name for name in up.services() if name != "migrate"]


def restart_worker(up: Stack, api: httpx.Client, experiment: str) -> int:
    """How many steps of the job that ran have to be done again."""
    before = next(job for job in jobs(api, experiment) if job["phase"] == "running")
    up.restart("worker")
    checkpoints = api.get(f"/jobs/{before['id']}/checkpoints").json()["items"]
    kept = [
        each["step"] for each in checkpoints if each["files"][0]["attempt"] <= before["attempt"]
    ]
    return int(before["progress"]["step"]) - max(kept, default=0)


def jobs(api: httpx.Client, experiment: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = api.get(f"/experiments/{experiment}").json()["jobs"]
    return found


def phase(api: httpx.Client, experiment: str) -> str:
    return str(api.get(f"/experiments/{experiment}").json()["phase"])


def steps_done(api: httpx.Client, experiment: str) -> int:
    return sum((job["progress"] or {"step": 0})["step"] for job in jobs(api, experiment))


def tracked(mlflow: httpx.Client, run: str, keys: set[str]) -> Counter[tuple[str, int, float]]:
    """The points of a run on the server."""
    found: Counter[tuple[str, int, float]] = Counter()
    for key in keys:
        answer = mlflow.get("/metrics/get-history", params={"run_id": run, "metric_key": key})
        points = answer.json().get("metrics", [])
        found.update((key, int(point["step"]), point["value"]) for point in points)
    return found

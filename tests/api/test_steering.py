"""Pausing, resuming and retrying over HTTP; workers and queues."""

import httpx
import pytest

from tests.api.documents import Json, training
from tests.api.problem_assertions import assert_problem
from tests.api.test_jobs import condition
from tests.api.working import Worker
from worker.ledger import Ledger, workers
from worker.ledger.datasets import Revision
from worker.ledger.workers import Capacity

NOBODY = "00000000-0000-4000-8000-000000000000"


def test_pause_and_resume_a_job(client: httpx.Client, experiment: Json, worker: Worker) -> None:
    claim = worker.claim()
    url = f"/v1/jobs/{claim.job_id}"
    paused = client.post(f"{url}/pause").json()
    assert (paused["phase"], paused["paused"]) == ("running", True)
    assert condition(paused, "Paused")["status"] == "False"
    worker.interrupt(claim)
    kept = client.get(url).json()
    assert (kept["phase"], kept["jobs_ahead"]) == ("queued", None)
    assert condition(kept, "Paused")["status"] == "True"
    resumed = client.post(f"{url}/resume").json()
    assert resumed["paused"] is False
    assert worker.claim().job_id == claim.job_id


def test_pause_and_resume_an_experiment(client: httpx.Client, experiment: Json) -> None:
    url = f"/v1/experiments/{experiment['id']}"
    paused = client.post(f"{url}/pause").json()
    assert paused["paused"] is True
    assert all(job["paused"] for job in paused["jobs"])
    (listed,) = client.get("/v1/experiments").json()["items"]
    assert listed["paused"] is True
    resumed = client.post(f"{url}/resume").json()
    assert not any(job["paused"] for job in resumed["jobs"])
    client.post(f"{url}/cancel")
    assert_problem(client.post(f"{url}/pause"), "not-allowed-now")


def test_retry_a_job(client: httpx.Client, experiment: Json, worker: Worker) -> None:
    claim = worker.claim()
    worker.publish_checkpoint(claim, 4)
    assert_problem(client.post(f"/v1/jobs/{claim.job_id}/retry"), "not-allowed-now")
    worker.fail(claim)
    url = f"/v1/jobs/{claim.job_id}/retry"
    again = client.post(url).json()
    assert (again["retry_of"], again["checkpoint_step"]) == (str(claim.job_id), 4)
    assert client.post(url).json()["id"] == again["id"]
    shown = client.get(f"/v1/experiments/{experiment['id']}").json()
    assert again["id"] in {job["id"] for job in shown["jobs"]}
    assert [job["phase"] for job in shown["jobs"]] == ["queued", "queued", "waiting", "waiting"]
    worker.run_all()
    assert client.get(f"/v1/experiments/{experiment['id']}").json()["phase"] == "succeeded"


def test_retry_an_experiment(client: httpx.Client, experiment: Json) -> None:
    url = f"/v1/experiments/{experiment['id']}"
    assert_problem(client.post(f"{url}/retry"), "not-allowed-now")
    assert client.post(f"{url}/cancel").json()["phase"] == "cancelled"
    shown = client.post(f"{url}/retry").json()
    assert (shown["phase"], shown["cancel_requested"]) == ("queued", False)


@pytest.mark.parametrize("action", ["pause", "resume", "retry"])
@pytest.mark.parametrize("thing", ["jobs", "experiments"])
def test_what_is_not_there(client: httpx.Client, thing: str, action: str) -> None:
    assert_problem(client.post(f"/v1/{thing}/{NOBODY}/{action}"), "not-found")


def test_a_failure_says_whose_fault_it_is(
    client: httpx.Client, experiment: Json, worker: Worker
) -> None:
    claim = worker.claim()
    worker.fail(claim)
    assert client.get(f"/v1/jobs/{claim.job_id}").json()["failure"]["fault"] == "code"


def test_resources_of_a_job(client: httpx.Client, dataset: Revision) -> None:
    resources = {"device": "gpu", "labels": ["a100"], "memory_gib": 2, "run_seconds": 60}
    body = training(resources=resources, deadline_seconds=3600)
    accepted = client.post("/v1/experiments", json=body).json()
    fit = client.get(f"/v1/jobs/{accepted['jobs'][0]['id']}").json()
    assert (fit["queue"], fit["gpus"], fit["labels"]) == ("gpu", 1, ["a100"])
    assert (fit["memory_bytes"], fit["run_seconds"]) == (2 << 30, 60)
    shown = client.get(f"/v1/experiments/{accepted['id']}").json()
    assert shown["expires_at"] > shown["created_at"]
    wrong = training(resources={"device": "tpu"})
    problem = assert_problem(client.post("/v1/experiments", json=wrong), "invalid-spec")
    assert problem["errors"][0]["field"] == "resources.device"


def test_workers(client: httpx.Client, ledger: Ledger) -> None:
    assert client.get("/v1/workers").json() == {"items": []}
    box = Capacity("1", ["cpu"], ["fast"], cpu_slots=2, gpus=0, memory_bytes=None)
    with ledger.unit_of_work() as session:
        workers.beat(session, name="box-1", capacity=box)
    (shown,) = client.get("/v1/workers").json()["items"]
    assert (shown["name"], shown["live"], shown["cpu_slots_free"]) == ("box-1", True, 2)
    drained = client.post("/v1/workers/box-1/drain", params={"running": "evict"}).json()
    assert drained["drain"] == "evict"
    assert client.get("/v1/workers/box-1").json() == drained
    assert client.post("/v1/workers/box-1/resume").json()["drain"] is None
    assert_problem(client.post("/v1/workers/nobody/drain"), "not-found")
    wrong = client.post("/v1/workers/box-1/drain", params={"running": "kill"})
    assert_problem(wrong, "invalid-parameter")


def test_queues(client: httpx.Client, experiment: Json) -> None:
    (cpu,) = client.get("/v1/queues").json()["items"]
    assert (cpu["name"], cpu["depth"], cpu["waiting"], cpu["running"]) == ("cpu", 2, 2, 0)
    assert cpu["oldest_wait_seconds"] >= 0
    closed = client.post("/v1/queues/cpu/close", params={"reason": "new disks"}).json()
    assert (closed["closed"], closed["reason"]) == (True, "new disks")
    assert client.get("/v1/queues/cpu").json()["closed"] is True
    assert client.post("/v1/queues/cpu/open").json()["closed"] is False
    empty = client.get("/v1/queues/nothing").json()
    assert (empty["depth"], empty["workers"]) == (0, 0)
    assert_problem(client.get("/v1/queues/No%00thing"), "invalid-parameter")

"""Jobs: their state, their conditions, and cancelling them."""

import httpx

from tests.api.documents import Json
from tests.api.problem_assertions import assert_problem
from tests.api.working import Worker


def condition(job: Json, kind: str) -> Json:
    (found,) = [item for item in job["conditions"] if item["type"] == kind]
    return found


def test_a_job_on_its_way(client: httpx.Client, experiment: Json, worker: Worker) -> None:
    by_key = {job["key"]: job["id"] for job in experiment["jobs"]}
    waiting = client.get(f"/v1/jobs/{by_key['distilled-0']}").json()
    assert waiting["phase"] == "waiting"
    assert waiting["needs"] == [by_key["teacher-big"]]
    assert condition(waiting, "InputsReady")["status"] == "False"
    assert condition(waiting, "Succeeded")["status"] == "Unknown"

    claim = worker.claim()
    worker.tell(claim, step=4)
    running = client.get(f"/v1/jobs/{claim.job_id}").json()
    assert running["phase"] == "running"
    assert running["progressPercentage"] == 40.0
    assert running["estimatedRemainingSeconds"] == 4.5
    assert running["jobs_ahead"] is None
    assert condition(running, "Running")["status"] == "True"
    assert condition(running, "Running")["lastTransitionTime"] == running["started_at"]
    assert running["spec"]["kind"] == "fit"
    queued = client.get("/v1/jobs?phase=queued").json()["items"]
    assert [job["jobs_ahead"] for job in queued] == [0]

    worker.succeed(claim)
    done = client.get(f"/v1/jobs/{claim.job_id}").json()
    assert done["phase"] == "succeeded"
    assert condition(done, "Succeeded")["status"] == "True"
    assert done["result"]["metrics"] == {"val/miou": 0.5}
    (attempt,) = client.get(f"/v1/jobs/{claim.job_id}/attempts").json()["items"]
    assert (attempt["number"], attempt["worker"], attempt["ended_as"]) == (1, "w1", "succeeded")


def test_a_failure_says_what_to_mend(
    client: httpx.Client, experiment: Json, worker: Worker
) -> None:
    claim = worker.claim()
    worker.fail(claim)
    failed = client.get(f"/v1/jobs/{claim.job_id}").json()
    assert (failed["phase"], failed["reason"]) == ("failed", "code_error")
    assert failed["failure"] == {
        "kind": "code_error",
        "message": "it broke",
        "field": "train.size",
        "remedy": "halve it",
        "fault": "code",
    }
    assert condition(failed, "Succeeded") == {
        "type": "Succeeded",
        "status": "False",
        "reason": "code_error",
        "message": "it broke",
        "lastTransitionTime": failed["finished_at"],
    }
    assert client.get(f"/v1/jobs/{claim.job_id}/logs").text == "broken\n"


def test_jobs_of_an_experiment(client: httpx.Client, experiment: Json) -> None:
    listed = client.get("/v1/jobs", params={"experiment": experiment["id"]}).json()["items"]
    assert {job["id"] for job in listed} == {job["id"] for job in experiment["jobs"]}
    first = client.get("/v1/jobs?limit=3").json()
    rest = client.get("/v1/jobs", params={"cursor": first["next_cursor"]}).json()
    assert len(first["items"]) == 3
    assert {job["id"] for job in first["items"] + rest["items"]} == {job["id"] for job in listed}


def test_cancel(client: httpx.Client, experiment: Json, worker: Worker) -> None:
    claim = worker.claim()
    asked = client.post(f"/v1/jobs/{claim.job_id}/cancel").json()
    assert asked["phase"] == "running"
    assert asked["cancel_requested"] is True
    assert condition(asked, "CancelRequested")["status"] == "True"
    (queued,) = client.get("/v1/jobs?phase=queued").json()["items"]
    cancelled = client.post(f"/v1/jobs/{queued['id']}/cancel").json()
    assert cancelled["phase"] == "cancelled"
    assert_problem(client.post(f"/v1/jobs/{queued['id']}/cancel"), "not-allowed-now")


def test_metrics(client: httpx.Client, experiment: Json, worker: Worker) -> None:
    claim = worker.claim()
    worker.tell(claim, step=1, **{"train/loss": 2.0, "val/iou/cell": 0.1})
    worker.tell(claim, step=2, **{"train/loss": 1.0})
    url = f"/v1/jobs/{claim.job_id}/metrics"
    points = client.get(url, params={"key": "train/loss"}).json()["items"]
    assert [(point["step"], point["value"]) for point in points] == [(1, 2.0), (2, 1.0)]
    assert len(client.get(url).json()["items"]) == 3
    assert client.get(url, params={"key": "none"}).json()["items"] == []

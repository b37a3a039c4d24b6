"""Submitting experiments: once, however often it is asked."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import httpx

from tests.api.documents import TRAIN, Json, distillation, training
from tests.api.problem_assertions import assert_problem
from tests.api.working import Worker
from worker.ledger.datasets import Revision


def test_a_submission_becomes_jobs(client: httpx.Client, dataset: Revision) -> None:
    answer = client.post("/v1/experiments", json=distillation())
    assert answer.status_code == 201
    accepted = answer.json()
    assert answer.headers["location"] == f"/v1/experiments/{accepted['id']}"
    assert "idempotency-replayed" not in answer.headers
    assert [job["key"] for job in accepted["jobs"]] == [
        "teacher-big",
        "baseline-0",
        "distilled-0",
        "verdict",
    ]
    assert accepted["fingerprint"] == dataset.fingerprint
    shown = client.get(answer.headers["location"]).json()
    assert shown["phase"] == "queued"
    assert [job["phase"] for job in shown["jobs"]] == ["queued", "queued", "waiting", "waiting"]
    assert shown["spec"]["objective"][1]["kind"] == "kd"


def test_validate_only_shows_the_plan(client: httpx.Client, dataset: Revision) -> None:
    answer = client.post("/v1/experiments?validate_only=true", json=distillation())
    assert answer.status_code == 200
    plan = answer.json()
    assert plan["valid"] is True
    by_key = {job["key"]: job for job in plan["jobs"]}
    assert by_key["distilled-0"]["needs"] == ["teacher-big"]
    assert not any(job["reused"] for job in plan["jobs"])
    assert client.get("/v1/experiments").json()["items"] == []
    assert client.get("/v1/jobs").json()["items"] == []


def test_equal_work_is_reused_unless_forced(client: httpx.Client, experiment: Json) -> None:
    planned = client.post("/v1/experiments?validate_only=1", json=distillation(name="again")).json()
    assert all(job["reused"] for job in planned["jobs"])
    again = client.post("/v1/experiments", json=distillation(name="again")).json()
    assert [job["id"] for job in again["jobs"]] == [job["id"] for job in experiment["jobs"]]
    forced = client.post("/v1/experiments?force=true", json=distillation(name="anew")).json()
    assert not {job["id"] for job in forced["jobs"]} & {job["id"] for job in again["jobs"]}


def test_the_plan_under_force_reuses_nothing(client: httpx.Client, experiment: Json) -> None:
    plan = client.post("/v1/experiments?validate_only=1&force=1", json=distillation()).json()
    assert not any(job["reused"] for job in plan["jobs"])


def test_a_replay_is_the_same_answer(
    client: httpx.Client, dataset: Revision, worker: Worker
) -> None:
    headers = {"Idempotency-Key": "key with spaces ~"}
    first = client.post("/v1/experiments", json=distillation(), headers=headers)
    worker.run_all()
    again = client.post("/v1/experiments", json=distillation(), headers=headers)
    assert (first.status_code, again.status_code) == (201, 201)
    assert again.content == first.content
    assert again.headers["location"] == first.headers["location"]
    assert again.headers["idempotency-replayed"] == "true"


def test_the_same_spec_written_otherwise_is_a_replay(
    client: httpx.Client, dataset: Revision
) -> None:
    headers = {"Idempotency-Key": "k"}
    first = client.post("/v1/experiments", json=training(), headers=headers)
    spelled_out = training(seeds=[0], priority=0, train=dict(reversed(TRAIN.items())))
    again = client.post("/v1/experiments", json=spelled_out, headers=headers)
    assert again.headers["idempotency-replayed"] == "true"
    assert again.json() == first.json()


def test_a_key_belongs_to_one_body(client: httpx.Client, dataset: Revision) -> None:
    headers = {"Idempotency-Key": "k"}
    client.post("/v1/experiments", json=training(), headers=headers)
    for path, body in [
        ("/v1/experiments", training(seeds=[1])),
        ("/v1/experiments?force=true", training()),
    ]:
        assert_problem(client.post(path, json=body, headers=headers), "idempotency-mismatch")
    assert len(client.get("/v1/experiments").json()["items"]) == 1


def test_fifty_at_once_are_one_experiment(client: httpx.Client, dataset: Revision) -> None:
    barrier = Barrier(50)

    def submit(_: int) -> httpx.Response:
        barrier.wait()
        return client.post(
            "/v1/experiments", json=distillation(), headers={"Idempotency-Key": "once"}
        )

    with ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(submit, range(50)))
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.content for answer in answers}) == 1
    replays = [answer for answer in answers if "idempotency-replayed" in answer.headers]
    assert len(replays) == 49
    assert len(client.get("/v1/experiments").json()["items"]) == 1
    assert len(client.get("/v1/jobs").json()["items"]) == 4


def test_fifty_of_equal_work_share_their_jobs(client: httpx.Client, dataset: Revision) -> None:
    def submit(number: int) -> httpx.Response:
        return client.post("/v1/experiments", json=distillation(name=f"e{number}"))

    with ThreadPoolExecutor(25) as pool:
        answers = list(pool.map(submit, range(50)))
    assert {answer.status_code for answer in answers} == {201}
    assert len({job["id"] for answer in answers for job in answer.json()["jobs"]}) == 4


def test_list_by_phase_and_page(client: httpx.Client, dataset: Revision) -> None:
    for name in ("a", "b", "c"):
        client.post("/v1/experiments", json=training(name=name, seeds=[ord(name)]))
    cancelled = client.get("/v1/experiments").json()["items"][0]
    client.post(f"/v1/experiments/{cancelled['id']}/cancel")
    listed = client.get("/v1/experiments?phase=cancelled").json()["items"]
    assert [item["id"] for item in listed] == [cancelled["id"]]
    first = client.get("/v1/experiments?limit=2").json()
    rest = client.get("/v1/experiments", params={"cursor": first["next_cursor"]}).json()
    assert [item["name"] for item in first["items"] + rest["items"]] == ["c", "b", "a"]
    assert rest["next_cursor"] is None


def test_cancel(client: httpx.Client, experiment: Json) -> None:
    answer = client.post(f"/v1/experiments/{experiment['id']}/cancel")
    assert answer.status_code == 200
    assert answer.json()["phase"] == "cancelled"
    assert {job["phase"] for job in answer.json()["jobs"]} == {"cancelled"}
    again = client.post(f"/v1/experiments/{experiment['id']}/cancel")
    assert_problem(again, "not-allowed-now")

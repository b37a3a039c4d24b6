"""Every refusal is a problem: its type, its status, and where the fault lies."""

import json
import socket
from uuid import UUID

import httpx
import pytest

from api import document
from tests.api.documents import Json, distillation, source, training
from tests.api.problem_assertions import assert_problem
from worker.ledger import reading
from worker.ledger.datasets import Revision

NOWHERE = UUID(int=1)
JSON = {"Content-Type": "application/json"}


@pytest.mark.parametrize(
    ("method", "path", "slug"),
    [
        ("GET", "/nowhere", "not-found"),
        ("GET", "/v1", "not-found"),
        ("GET", "/v1/nothing", "not-found"),
        ("DELETE", "/v1/jobs", "method-not-allowed"),
        ("PUT", f"/v1/jobs/{NOWHERE}", "method-not-allowed"),
        ("BREW", "/v1/jobs", "method-not-allowed"),
        ("GET", f"/v1/jobs/{NOWHERE}", "not-found"),
        ("GET", f"/v1/jobs/{NOWHERE}/events", "not-found"),
        ("GET", f"/v1/jobs/{NOWHERE}/metrics", "not-found"),
        ("GET", f"/v1/jobs/{NOWHERE}/artifacts", "not-found"),
        ("GET", f"/v1/jobs/{NOWHERE}/artifacts/log.txt", "not-found"),
        ("GET", f"/v1/jobs/{NOWHERE}/logs", "not-found"),
        ("GET", f"/v1/jobs/{NOWHERE}/attempts", "not-found"),
        ("GET", f"/v1/jobs/{NOWHERE}/checkpoints", "not-found"),
        ("POST", f"/v1/jobs/{NOWHERE}/cancel", "not-found"),
        ("GET", f"/v1/experiments/{NOWHERE}", "not-found"),
        ("POST", f"/v1/experiments/{NOWHERE}/cancel", "not-found"),
        ("GET", f"/v1/comparisons/{NOWHERE}", "not-found"),
        ("GET", f"/v1/comparisons/{NOWHERE}/report", "not-found"),
        ("GET", "/v1/datasets/none", "not-found"),
        ("GET", "/v1/datasets/none/revisions/1", "not-found"),
        ("GET", "/v1/models/none", "not-found"),
        ("GET", "/v1/models/none/versions/1/files/model.json", "not-found"),
        ("GET", "/v1/jobs/12", "invalid-parameter"),
        ("GET", "/v1/jobs?limit=0", "invalid-parameter"),
        ("GET", "/v1/jobs?limit=201", "invalid-parameter"),
        ("GET", "/v1/jobs?phase=done", "invalid-parameter"),
        ("GET", "/v1/jobs?experiment=%00", "invalid-parameter"),
        ("GET", "/v1/jobs?cursor=%00", "invalid-reference"),
        ("GET", "/v1/jobs?cursor=e30=", "invalid-reference"),
        ("GET", "/v1/experiments?cursor=x", "invalid-reference"),
        ("GET", "/v1/datasets?cursor=x", "invalid-reference"),
        ("GET", "/v1/models?cursor=x", "invalid-reference"),
        ("GET", "/v1/datasets/%00", "invalid-parameter"),
        ("GET", "/v1/datasets/a/revisions/0", "invalid-parameter"),
        ("GET", "/v1/datasets/a/revisions/99999999999999999999", "invalid-parameter"),
        ("GET", f"/v1/jobs/{NOWHERE}/metrics?key=%00", "invalid-parameter"),
        ("GET", f"/v1/jobs/{NOWHERE}/events?after=-1", "invalid-parameter"),
        ("GET", f"/v1/jobs/{NOWHERE}/logs?tail=0", "invalid-parameter"),
        ("GET", "/v1/schemas/secret", "invalid-parameter"),
        ("GET", "/problems/none", "invalid-parameter"),
    ],
)
def test_refusals_without_a_body(standing: httpx.Client, method: str, path: str, slug: str) -> None:
    problem = assert_problem(standing.request(method, path), slug)
    assert problem["instance"].startswith("/")
    if slug.startswith("invalid-"):
        assert problem["errors"][0]["field"]
        assert problem["errors"][0]["location"] in ("query", "path")


def test_method_not_allowed_says_what_is(standing: httpx.Client) -> None:
    assert standing.delete("/healthz").headers["allow"] == "GET"


@pytest.mark.parametrize(
    ("headers", "content", "slug"),
    [
        (JSON, b"{", "invalid-json"),
        (JSON, b'{"kind": NaN}', "invalid-json"),
        (JSON, b"[" * 100_000, "invalid-json"),
        (JSON, b'{"name": "\\u0000"}', "invalid-json"),
        ({}, b"{}", "unsupported-media-type"),
        ({"Content-Type": "text/plain"}, b"{}", "unsupported-media-type"),
        ({"Content-Type": "application/x-yaml"}, b"kind: training", "unsupported-media-type"),
        ({"Content-Type": "application/json; charset=utf-16"}, b"{}", "unsupported-media-type"),
        ({"Content-Type": "multipart/form-data; boundary=x"}, b"--x--", "unsupported-media-type"),
        (JSON, b"", "invalid-spec"),
        (JSON, b"{}", "invalid-spec"),
        (JSON, b"[]", "invalid-spec"),
        (JSON, b'"\xc3\xa4"', "invalid-spec"),
        (JSON, b'"' + b"x" * 1024 * 1024 + b'"', "content-too-large"),
    ],
    ids=lambda value: value[:16] if isinstance(value, bytes) else None,
)
@pytest.mark.parametrize("path", ["/v1/experiments", "/v1/datasets"])
def test_refusals_of_a_body(
    standing: httpx.Client, path: str, headers: Json, content: bytes, slug: str
) -> None:
    if content == b"" and slug == "invalid-spec":
        headers = {}
    assert_problem(standing.post(path, headers=headers, content=content), slug)


def test_a_body_without_a_length_is_cut_while_it_streams(standing: httpx.Client) -> None:
    with connect(standing) as raw:
        raw.sendall(
            b"POST /v1/experiments HTTP/1.1\r\nHost: localhost\r\n"
            b"Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        raw.sendall(b"10000\r\n" + b" " * 65536 + b"\r\n")
        for _ in range(16):
            raw.sendall(b"10000\r\n" + b" " * 65536 + b"\r\n")
        # The body has no end yet; the answer is there all the same.
        assert raw.makefile("rb").readline().startswith(b"HTTP/1.1 413")


def test_json_with_a_suffix_and_charset_is_json(client: httpx.Client, dataset: Revision) -> None:
    answer = client.post(
        "/v1/experiments",
        headers={"Content-Type": "application/vnd.kd+json; charset=UTF-8"},
        content=json.dumps(training()),
    )
    assert answer.status_code == 201, answer.text


def test_unknown_host(standing: httpx.Client) -> None:
    for host in ("evil.example", "localhost.evil.example", "127.0.0.1@evil", ""):
        assert_problem(standing.get("/v1/jobs", headers={"Host": host}), "invalid-host")
    for host in ("localhost", "localhost:99", "127.0.0.1", "[::1]:8000"):
        assert standing.get("/healthz", headers={"Host": host}).status_code == 200


def test_the_fields_of_a_refused_spec(standing: httpx.Client) -> None:
    document = distillation(seeds=[-1], objective=[{"kind": "kd", "temprature": 2}])
    problem = assert_problem(standing.post("/v1/experiments", json=document), "invalid-spec")
    assert problem["instance"] == "/v1/experiments"
    seed, typo = problem["errors"]
    assert seed["pointer"] == "/seeds/0"
    assert seed["field"] == "seeds.0"
    assert seed["location"] == "body"
    assert "greater than or equal to 0" in seed["detail"]
    assert typo["pointer"] == "/objective/0/temprature"
    assert typo["remedy"] == "Did you mean `temperature`?"


def test_the_fields_of_a_refused_dataset(standing: httpx.Client) -> None:
    document = source("/x", classes=[{"name": "a", "raw_ids": [-1]}, {"name": ""}])
    problem = assert_problem(standing.post("/v1/datasets", json=document), "invalid-spec")
    assert [error["pointer"] for error in problem["errors"]] == [
        "/classes/0/raw_ids/0",
        "/classes/1/name",
    ]


def test_thousands_of_faults_are_not_all_listed(standing: httpx.Client) -> None:
    document = training(objective=[{"kind": "dice", "eps": 0}] * 5000)
    answer = standing.post("/v1/experiments", json=document)
    problem = assert_problem(answer, "invalid-spec")
    assert len(problem["errors"]) == 200
    assert "4999 more" in problem["detail"]


def test_a_missing_reference_names_its_field(client: httpx.Client, dataset: Revision) -> None:
    problem = assert_problem(
        client.post("/v1/experiments", json=training(dataset="none")), "invalid-reference"
    )
    assert problem["errors"][0]["pointer"] == "/dataset"
    teachers = [{"name": "a", "model": "models:/none/1"}]
    problem = assert_problem(
        client.post("/v1/experiments", json=distillation(teachers=teachers)), "invalid-reference"
    )
    assert problem["errors"][0]["pointer"] == "/teachers/0/model"
    assert problem["errors"][0]["field"] == "teachers.0.model"


@pytest.mark.parametrize("key", ["x" * 256, "tab\there", "", "ä"])
def test_bad_idempotency_keys(standing: httpx.Client, key: str) -> None:
    headers = {"Idempotency-Key": key.encode()}
    problem = assert_problem(
        standing.post("/v1/experiments", json=training(), headers=headers), "invalid-parameter"
    )
    assert problem["errors"][0]["location"] == "header"
    assert problem["errors"][0]["field"] == "Idempotency-Key"


def test_what_is_no_http_is_not_answered_with_internals(standing: httpx.Client) -> None:
    with connect(standing) as raw:
        raw.sendall(b"\x16\x03\x01 hello\r\n\r\n")
        answer = raw.makefile("rb").read()
    assert answer.startswith(b"HTTP/1.1 400")
    assert b"Traceback" not in answer


def connect(client: httpx.Client) -> socket.socket:
    return socket.create_connection((client.base_url.host, client.base_url.port or 0), timeout=10)


def test_types_lead_to_their_meaning(standing: httpx.Client) -> None:
    problem = assert_problem(standing.get("/v1/jobs/12"), "invalid-parameter")
    explained = standing.get(problem["type"]).json()
    assert explained["status"] == 422
    assert explained["meaning"]


def test_a_page_of_another_origin_changes_nothing(standing: httpx.Client) -> None:
    url = f"/v1/jobs/{NOWHERE}/cancel"
    for headers in (
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://[bad"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site", "Origin": "http://localhost:3000"},
    ):
        assert_problem(standing.post(url, headers=headers), "cross-origin")
        assert standing.get("/v1/jobs", headers=headers).status_code == 200
    ours = {"Origin": "http://localhost:8000", "Sec-Fetch-Site": "same-origin"}
    assert_problem(standing.post(url, headers=ours), "not-found")


def test_a_body_that_trickles_in_is_not_waited_for(
    standing: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(document, "BODY_SECONDS", 0.1)
    with connect(standing) as raw:
        raw.sendall(
            b"POST /v1/experiments HTTP/1.1\r\nHost: localhost\r\n"
            b"Content-Type: application/json\r\nContent-Length: 10\r\n\r\n{"
        )
        answer = raw.makefile("rb").read()
    assert answer.startswith(b"HTTP/1.1 408")
    assert b"/problems/request-timeout" in answer


def test_a_fault_of_ours_tells_nothing(
    standing: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("the secret is 42")

    monkeypatch.setattr(reading, "get_job", broken)
    answer = standing.get(f"/v1/jobs/{NOWHERE}")
    assert answer.headers["content-type"] == "application/problem+json"
    assert (answer.status_code, answer.json()["type"]) == (500, "/problems/internal-error")
    assert "42" not in answer.text

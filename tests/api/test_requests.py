"""A request leaves one line, an id on both sides, and a span where traces are sent."""

import contextlib
import re
from collections.abc import Iterator

import httpx
import pytest
import structlog
from fastapi import FastAPI
from structlog.typing import EventDict

from api.settings import Settings
from tests.api.documents import Json, training
from tests.api.problem_assertions import assert_problem
from tests.api.serving import serve
from tests.collector import Collector, attributes, collecting
from worker.ledger import Ledger
from worker.ledger.datasets import Revision
from worker.observing import tracing

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
PARENT = f"00-{TRACE_ID}-b7ad6b7169203331-01"


@contextlib.contextmanager
def logged() -> Iterator[list[EventDict]]:
    with structlog.testing.capture_logs([structlog.contextvars.merge_contextvars]) as lines:
        yield lines


def test_one_line_with_the_id_of_the_answer(client: httpx.Client, experiment: Json) -> None:
    job = experiment["jobs"][0]["id"]
    with logged() as lines:
        answer = client.get(f"/v1/jobs/{job}")
    [line] = lines
    assert line["event"] == "request.answered"
    assert line["request"] == answer.headers["x-request-id"]
    assert re.fullmatch(r"[0-9a-f]{32}", line["request"])
    assert (line["method"], line["path"], line["status"]) == ("GET", f"/v1/jobs/{job}", 200)
    assert line["job"] == job
    assert 0 < line["seconds"] < 30


def test_the_client_may_choose_the_id(client: httpx.Client) -> None:
    answer = client.get("/v1/jobs", headers={"X-Request-Id": "release-7.a_b"})
    assert answer.headers["x-request-id"] == "release-7.a_b"


@pytest.mark.parametrize("id", ["", "a b", "x" * 65, "é", "a;b"])
def test_an_id_that_could_break_a_line_is_replaced(client: httpx.Client, id: str) -> None:
    answer = client.get("/v1/jobs", headers={"X-Request-Id": id.encode()})
    assert re.fullmatch(r"[0-9a-f]{32}", answer.headers["x-request-id"])


def test_a_path_cannot_forge_a_line(client: httpx.Client) -> None:
    with logged() as lines:
        client.get("/v1/jobs/%0A2026-01-01%20attempt.finished")
    [line] = lines
    assert "\n" not in "".join(str(value) for value in line.values())


def test_probes_leave_no_line(client: httpx.Client) -> None:
    with logged() as lines:
        for path in ("/healthz", "/readyz", "/metrics"):
            assert client.get(path).status_code == 200
    assert lines == []


def test_refusals_of_middleware_have_an_id_too(client: httpx.Client) -> None:
    answer = client.get("/v1/jobs", headers={"Host": "evil.example"})
    assert_problem(answer, "invalid-host")
    assert answer.headers["x-request-id"]


def test_what_a_request_logs_has_its_id(client: httpx.Client, dataset: Revision) -> None:
    with logged() as lines:
        answer = client.post(
            "/v1/experiments", json=training(), headers={"X-Request-Id": "submit-1"}
        )
    submitted, answered = lines
    assert submitted["event"] == "experiment.submitted"
    assert submitted["experiment"] == answer.json()["id"]
    assert submitted["request"] == answered["request"] == "submit-1"
    assert answered["status"] == 201


def test_a_fault_of_ours_is_found_by_its_id(settings: Settings) -> None:
    with serve(settings, change=_break) as client, logged() as lines:
        answer = client.get("/v1/broken")
    assert answer.status_code == 500
    assert answer.json()["type"] == "/problems/internal-error"
    [noted] = [line for line in lines if line["event"] == "request.answered"]
    [failed] = [line for line in lines if line["event"] == "request.failed"]
    assert noted["status"] == 500
    assert answer.headers["x-request-id"] == noted["request"] == failed["request"]


def test_jobs_keep_the_trace_of_the_request(
    settings: Settings, ledger: Ledger, dataset: Revision, traced: Collector
) -> None:
    with serve(settings) as client:
        client.get("/healthz")
        answer = client.post("/v1/experiments", json=training(), headers={"traceparent": PARENT})
        assert answer.status_code == 201
        replay = client.post("/v1/experiments", json=training(), headers={"traceparent": PARENT})
    provider = tracing.provider()
    assert provider is not None
    provider.force_flush()
    assert replay.status_code == 201
    first, second = traced.named("POST /v1/experiments")
    assert {span.name for span in traced.received} == {"POST /v1/experiments"}
    assert first.trace_id.hex() == TRACE_ID
    assert first.parent_span_id.hex() == "b7ad6b7169203331"
    assert attributes(first)["http.response.status_code"] == 201
    [job, *_] = answer.json()["jobs"]
    with serve(settings) as client:
        events = client.get(
            f"/v1/jobs/{job['id']}/events", headers={"Accept": "application/json"}
        ).json()["items"]
    assert events[0]["type"] == "job.submitted"
    # The second submission reuses the job; whose it is does not change.
    assert events[0]["data"]["trace"] == f"00-{TRACE_ID}-{first.span_id.hex()}-01"
    assert second.trace_id == first.trace_id


@pytest.fixture
def traced(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    """Traces are on until the end of the test."""
    with collecting() as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        tracing.provider.cache_clear()
        yield collector
        provider = tracing.provider()
        assert provider is not None
        provider.shutdown()
    monkeypatch.undo()
    tracing.provider.cache_clear()


def _break(app: FastAPI) -> None:
    @app.get("/v1/broken")
    def broken() -> None:
        raise RuntimeError("nobody thought of this")

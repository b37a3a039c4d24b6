"""What Prometheus reads: requests by their route, and the queues; also when the database is away."""

from collections.abc import Iterator

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from api.settings import Settings
from tests.api.documents import Json
from tests.api.serving import serve
from tests.api.working import Worker

Samples = dict[tuple[str, ...], float]


def test_the_queues(client: httpx.Client, experiment: Json, worker: Worker) -> None:
    before = scrape(client)
    assert before["stillhouse_ledger_up",] == 1
    assert before["stillhouse_queue_jobs_queued", "cpu"] == 2
    assert before["stillhouse_queue_jobs_running", "cpu"] == 0
    assert before["stillhouse_queue_oldest_seconds", "cpu"] > 0
    worker.claim()
    worker.claim()
    after = scrape(client)
    assert after["stillhouse_queue_jobs_queued", "cpu"] == 0
    assert after["stillhouse_queue_jobs_running", "cpu"] == 2
    assert after["stillhouse_queue_oldest_seconds", "cpu"] == 0
    assert after["stillhouse_leases_expired",] == 0


def test_a_queue_that_ran_empty_is_still_shown(
    client: httpx.Client, experiment: Json, worker: Worker
) -> None:
    assert scrape(client)["stillhouse_queue_jobs_queued", "cpu"] == 2
    client.post(f"/v1/experiments/{experiment['id']}/cancel").raise_for_status()
    assert scrape(client)["stillhouse_queue_jobs_queued", "cpu"] == 0


def test_the_lag_is_shown_where_there_is_something_to_lag_behind(
    client: httpx.Client, settings: Settings
) -> None:
    name = "stillhouse_projection_lag_seconds"
    assert (name,) not in scrape(client)
    with serve(settings.model_copy(update={"mlflow_url": "http://mlflow:5000"})) as projecting:
        assert scrape(projecting)[name,] == 0


def test_requests_by_route(client: httpx.Client, experiment: Json) -> None:
    before = scrape(client)
    job = experiment["jobs"][0]["id"]
    client.get(f"/v1/jobs/{job}/attempts").raise_for_status()
    client.get(f"/v1/jobs/{job}/attempts").raise_for_status()
    client.get("/v1/jobs/no-such-id")
    client.get("/no/such/page")
    client.request("BREW", "/v1/jobs")
    client.get("/v1/datasets/v1")
    client.get("/docs").raise_for_status()
    grown = {
        key[1:]: value - before.get(key, 0)
        for key, value in scrape(client).items()
        if key[0] == "stillhouse_http_request_seconds_count" and value > before.get(key, 0)
    }
    assert grown.pop(("GET", "/metrics", "200")) == 1
    assert grown == {
        ("GET", "/v1/jobs/{job_id}/attempts", "200"): 2,
        ("GET", "/v1/jobs/{job_id}", "422"): 1,
        ("GET", "unmatched", "404"): 1,
        ("other", "/v1/jobs", "405"): 1,
        ("GET", "/v1/datasets/{name}", "404"): 1,
        # Pages that are FastAPI's own are no routes of the API.
        ("GET", "unmatched", "200"): 1,
    }


def test_without_a_database(unreachable: httpx.Client) -> None:
    found = scrape(unreachable)
    assert found["stillhouse_ledger_up",] == 0
    assert not any(key[0].startswith("stillhouse_queue") for key in found)
    assert found["process_resident_memory_bytes",] > 0


@pytest.fixture(scope="module")
def unreachable(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    settings = Settings(
        database_url="postgresql+psycopg://kd:secret@127.0.0.1:1/none",
        artifacts_dir=tmp_path_factory.mktemp("artifacts"),
    )
    with serve(settings) as client:
        yield client


def scrape(client: httpx.Client) -> Samples:
    """Values by name and labels, in the order of the labels' names; the buckets are left out."""
    answer = client.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
        if "le" not in sample.labels
    }

"""Files that are in an S3 service: sent from here or from there, and what happens without it."""

from collections.abc import Iterator
from uuid import uuid4

import httpx
import pytest

from api.settings import Settings
from tests.api.conftest import SCANNER
from tests.api.documents import Json, distillation
from tests.api.problem_assertions import assert_problem
from tests.api.serving import serve
from tests.api.working import FIT_FILES, Worker
from tests.services import s3_service
from tests.tcp_proxy import TcpProxy
from worker.artifacts import s3_client
from worker.ledger.datasets import Revision

WEIGHTS = FIT_FILES["model/model.safetensors"].encode()


@pytest.fixture(scope="module")
def proxy() -> Iterator[TcpProxy]:
    with TcpProxy(s3_service().endpoint) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def settings(
    shared_database: str, tmp_path_factory: pytest.TempPathFactory, proxy: TcpProxy
) -> Settings:
    service = s3_service()
    return Settings(
        database_url=shared_database,
        artifacts_url=f"s3://{service.bucket}/test-{uuid4().hex}",
        s3_endpoint=proxy.url,
        s3_public_endpoint=service.endpoint,
        dataset_roots=(tmp_path_factory.mktemp("datasets"),),
        scanner=SCANNER,
    )


@pytest.fixture(scope="module")
def served(settings: Settings) -> Iterator[httpx.Client]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(s3_client, "CONNECT_SECONDS", 1)
        with serve(settings) as client:
            yield client


@pytest.fixture
def weights(client: httpx.Client, experiment: Json, worker: Worker) -> str:
    claim = worker.claim()
    worker.succeed(claim)
    return f"/v1/jobs/{claim.job_id}/artifacts/model/model.safetensors"


def test_sent_from_here(client: httpx.Client, weights: str) -> None:
    assert client.get(weights).content == WEIGHTS
    assert client.get(weights, headers={"Range": "bytes=3-4"}).content == WEIGHTS[3:5]
    assert client.head(weights).headers["content-length"] == str(len(WEIGHTS))
    log = weights.replace("artifacts/model/model.safetensors", "logs")
    assert client.get(f"{log}?tail=2").text == "step 2\nstep 3\n"


def test_sent_from_there(client: httpx.Client, weights: str, settings: Settings) -> None:
    assert client.get(f"{weights}?presigned").status_code == 307
    answer = client.get(weights, params={"presigned": True})
    assert answer.status_code == 307
    assert answer.headers["cache-control"] == "no-store"
    address = answer.headers["location"]
    assert address.startswith(f"{settings.s3_public_endpoint}/")
    there = httpx.get(address, trust_env=False)
    assert there.content == WEIGHTS
    assert "model.safetensors" in there.headers["content-disposition"]
    # A signature is good for one method.
    assert client.head(weights, params={"presigned": True}).status_code == 200


def test_a_model_file_is_sent_from_there_too(client: httpx.Client, weights: str) -> None:
    (model,) = client.get("/v1/models").json()["items"]
    file = f"/v1/models/{model['name']}/versions/1/files/model.safetensors?presigned=true"
    answer = client.get(file)
    assert httpx.get(answer.headers["location"], trust_env=False).content == WEIGHTS


def test_content_that_is_gone(client: httpx.Client, worker: Worker, weights: str) -> None:
    digest = client.get(weights).headers["etag"].strip('"')
    worker.store.drop(digest)
    assert client.get(weights).content == WEIGHTS  # it can be read until it is erased
    worker.store.erase(digest)
    for presigned in (False, True):
        assert_problem(client.get(weights, params={"presigned": presigned}), "content-gone")


def test_without_the_service_only_files_are_unavailable(
    client: httpx.Client, weights: str, dataset: Revision, proxy: TcpProxy
) -> None:
    proxy.fail()
    try:
        problem = assert_problem(client.get(weights), "unavailable")
        assert "s3" not in problem["detail"].lower()
        assert client.post("/v1/experiments", json=distillation(name="again")).status_code == 201
        ready = client.get("/readyz")
        assert ready.status_code == 200
        assert ready.json()["checks"]["artifacts"]["ok"] is False
    finally:
        proxy.down = False
    assert client.get(weights).content == WEIGHTS
    assert client.get("/readyz").json()["checks"]["artifacts"]["ok"] is True

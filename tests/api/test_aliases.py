"""Aliases of model versions: moved by one call, and meant by references from then on."""

import httpx
import pytest

from tests.api.documents import Json
from tests.api.problem_assertions import assert_problem
from tests.api.working import Worker

MODEL = "/v1/models/demo-distilled"


def test_an_alias_is_put_on_a_version(
    client: httpx.Client, experiment: Json, worker: Worker
) -> None:
    worker.run_all()
    assert client.get(MODEL).json()["aliases"] == {"candidate": 1}
    for _ in range(2):
        answer = client.put(f"{MODEL}/versions/1/aliases/champion")
        assert answer.status_code == 200
        assert answer.json()["aliases"] == {"candidate": 1, "champion": 1}
    assert client.get(MODEL).json() == answer.json()


@pytest.mark.parametrize(
    ("path", "slug"),
    [
        (f"{MODEL}/versions/2/aliases/champion", "not-found"),
        ("/v1/models/none/versions/1/aliases/champion", "not-found"),
        (f"{MODEL}/versions/1/aliases/latest", "invalid-reference"),
        (f"{MODEL}/versions/1/aliases/v2", "invalid-reference"),
        (f"{MODEL}/versions/1/aliases/Best", "invalid-parameter"),
    ],
)
def test_refused(
    client: httpx.Client, experiment: Json, worker: Worker, path: str, slug: str
) -> None:
    worker.run_all()
    assert_problem(client.put(path), slug)

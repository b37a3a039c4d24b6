"""Whatever is sent, the answer is a problem or a success, never a fault of ours."""

import json
from typing import Any
from urllib.parse import quote

import httpx
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from api.problems import MEDIA_TYPE
from tests.api.documents import distillation, source, training

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(
        ["auto", "kd", "ce", "training", "distillation", "models:/a/1", "tiny@latest"]
    )
)
KEYS = st.sampled_from(
    ["kind", "name", "train", "model", "teachers", "objective", "weight", "baseline", "from", "to"]
) | st.text(max_size=8)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4)
)
DOCUMENTS = st.sampled_from([training(), distillation(), source("/")])


@st.composite
def damaged(draw: st.DrawFn) -> Any:
    """A good document with some of its parts replaced."""
    document = json.loads(json.dumps(draw(DOCUMENTS)))
    for _ in range(draw(st.integers(1, 3))):
        _replace(draw, document)
    return document


def _replace(draw: st.DrawFn, node: Any) -> None:
    keys = list(node) if isinstance(node, dict) else list(range(len(node)))
    key = draw(st.sampled_from(keys)) if keys else None
    if key is None:
        return
    if isinstance(node[key], dict | list) and node[key] and draw(st.booleans()):
        _replace(draw, node[key])
    else:
        node[key] = draw(VALUES)


@settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(body=damaged() | VALUES, path=st.sampled_from(["/v1/experiments", "/v1/datasets"]))
def test_bodies(standing: httpx.Client, body: Any, path: str) -> None:
    content = json.dumps(body).encode()
    _check(standing.post(path, content=content, headers={"Content-Type": "application/json"}))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    path=st.sampled_from(["/v1/jobs", "/v1/experiments", "/v1/models", "/v1/datasets"]),
    parts=st.lists(st.text(max_size=12), max_size=3),
    query=st.dictionaries(
        st.sampled_from(["cursor", "limit", "phase", "experiment", "key", "after"]),
        st.text(max_size=12),
        max_size=3,
    ),
)
def test_addresses(
    standing: httpx.Client, path: str, parts: list[str], query: dict[str, str]
) -> None:
    address = "/".join([path, *(quote(part, safe="") for part in parts)])
    _check(standing.get(address, params=query))


def _check(answer: httpx.Response) -> None:
    assert answer.status_code < 500, answer.text
    if answer.status_code >= 400:
        assert answer.headers["content-type"] == MEDIA_TYPE

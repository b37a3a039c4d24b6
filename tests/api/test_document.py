"""Bodies that no spec needs are refused before anything looks at them."""

import json
from typing import Any

import pytest

from api.document import MAX_DEPTH, MAX_VALUES, parse
from api.problems import Refusal, Slug


def nested(depth: int) -> bytes:
    return b"[" * depth + b"]" * depth


@pytest.mark.parametrize("value", [{}, [], "text", 1, -1.5, None, {"a": [{"b": "ä\n"}]}])
def test_json_is_read(value: Any) -> None:
    assert parse(json.dumps(value).encode()) == value
    assert parse(json.dumps(value, ensure_ascii=False).encode()) == value


def test_depth_of_the_limit_is_read() -> None:
    assert parse(nested(MAX_DEPTH)) is not None


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "line 1, column 1"),
        (b"{", "line 1, column 2"),
        (b'{"a": 1,}', "not JSON"),
        (b"{'a': 1}", "not JSON"),
        (b"\xff\xfe{}", "not UTF-8 (byte 0)"),
        ("{}".encode("utf-16-le"), "not JSON"),
        (b"NaN", "NaN is not a JSON number"),
        (b'{"a": -Infinity}', "-Infinity is not a JSON number"),
        (b'{"a": 1, "b": 2, "a": 3}', "'a' appears twice"),
        (b'"\\u0000"', "NUL"),
        (b'{"\\u0000": 1}', "NUL"),
        (b'["\\ud800"]', "surrogate"),
        (b'{"\\udc00": 1}', "surrogate"),
        (b"9223372036854775808", "64 bits"),
        (b"9" * 5000, "not acceptable JSON"),
        (nested(MAX_DEPTH + 1), f"deeper than {MAX_DEPTH}"),
        (nested(100_000), f"deeper than {MAX_DEPTH}"),
        (b'{"a":' * 100_000, f"deeper than {MAX_DEPTH}"),
        (b"[" + b"1," * MAX_VALUES + b"1]", f"more than {MAX_VALUES}"),
    ],
    ids=lambda value: None if isinstance(value, bytes) else value,
)
def test_everything_else_is_refused(body: bytes, said: str) -> None:
    with pytest.raises(Refusal) as caught:
        parse(body)
    assert caught.value.slug is Slug.INVALID_JSON
    assert said in caught.value.detail

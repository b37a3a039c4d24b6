"""`--set path=value`."""

from typing import Any

import pytest

from kdcore.errors import SpecError
from kdcore.run.settings import with_settings

DOCUMENT: dict[str, Any] = {
    "train": {"steps": 900, "size": [64, 64]},
    "teachers": [{"name": "a"}, {"name": "b"}],
    "seeds": [0, 1],
}


@pytest.mark.parametrize(
    ("setting", "path", "found"),
    [
        ("train.steps=5", ("train", "steps"), 5),
        ("train.size=[32, 16]", ("train", "size"), [32, 16]),
        ("train.optimizer.lr=1.0e-3", ("train", "optimizer", "lr"), 1e-3),
        ("teachers.1.weight=0.5", ("teachers", 1, "weight"), 0.5),
        ("seeds.0=7", ("seeds", 0), 7),
        ("name=a=b", ("name",), "a=b"),
        ("unlabelled=null", ("unlabelled",), None),
    ],
)
def test_a_value_is_set(setting: str, path: tuple[str | int, ...], found: object) -> None:
    node: Any = with_settings(DOCUMENT, [setting])
    for key in path:
        node = node[key]
    assert node == found


def test_the_rest_stays_and_the_given_document_too() -> None:
    changed = with_settings(DOCUMENT, ["train.steps=5", "teachers.0.weight=2"])
    assert changed["train"]["size"] == [64, 64]
    assert changed["teachers"] == [{"name": "a", "weight": 2}, {"name": "b"}]
    assert DOCUMENT["train"]["steps"] == 900
    assert DOCUMENT["teachers"][0] == {"name": "a"}


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("train.steps", "sets nothing"),
        ("=5", "sets nothing"),
        ("teachers.2.weight=1", "none of them"),
        ("teachers.b.weight=1", "none of them"),
        ("train.steps.more=1", "has no more"),
        ("train.steps=[1", "no YAML value"),
    ],
)
def test_what_cannot_be_set_is_told(setting: str, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        with_settings(DOCUMENT, [setting])

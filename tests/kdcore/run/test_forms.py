"""A recipe's sections `smoke` and `small`, laid over the rest."""

from typing import Any

import pytest

from kdcore.errors import SpecError
from kdcore.run.forms import Form, form_of

FULL: dict[str, Any] = {
    "train": {"size": [512, 512], "steps": 900, "optimizer": {"kind": "sgd", "lr": 1}},
    "teachers": [{"name": "a", "train": {"steps": 7}}, {"name": "b", "weight": 2}],
    "seeds": [0, 1, 2],
}


def small(changes: dict[str, Any]) -> dict[str, Any]:
    return form_of({**FULL, "smoke": changes}, "smoke")


def test_in_full_the_section_is_not_there() -> None:
    assert form_of({**FULL, "smoke": {"seeds": [0]}, "small": {}}, None) == FULL


def test_mappings_are_merged_and_what_is_not_named_stays() -> None:
    train = small({"train": {"steps": 5, "optimizer": {"lr": 2}}})["train"]
    assert train == {"size": [512, 512], "steps": 5, "optimizer": {"kind": "sgd", "lr": 2}}
    assert FULL["train"]["steps"] == 900


def test_lists_of_mappings_are_merged_item_by_item() -> None:
    teachers = small({"teachers": [{"train": {"steps": 1}}, {}]})["teachers"]
    assert teachers == [{"name": "a", "train": {"steps": 1}}, {"name": "b", "weight": 2}]


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"seeds": [4]}, [4]),
        ({"seeds": [5, 6, 7]}, [5, 6, 7]),
        ({"seeds": None}, None),
    ],
)
def test_anything_else_replaces(changes: dict[str, Any], found: object) -> None:
    assert small(changes)["seeds"] == found


def test_another_kind_replaces_with_all_its_fields() -> None:
    train = small({"train": {"optimizer": {"kind": "adamw", "lr": 2}}})["train"]
    assert train["optimizer"] == {"kind": "adamw", "lr": 2}
    train = small({"train": {"optimizer": {"kind": "sgd", "momentum": 0.5}}})["train"]
    assert train["optimizer"] == {"kind": "sgd", "lr": 1, "momentum": 0.5}


def test_other_numbers_of_items_replace_the_list() -> None:
    assert small({"teachers": [{"name": "c"}]})["teachers"] == [{"name": "c"}]


def test_each_form_has_its_own_section() -> None:
    document = {**FULL, "smoke": {"seeds": [0]}, "small": {"seeds": [1]}}
    assert [form_of(document, form)["seeds"] for form in ("smoke", "small")] == [[0], [1]]


@pytest.mark.parametrize("form", ["smoke", "small", None])
def test_a_section_that_is_none(form: Form | None) -> None:
    with pytest.raises(SpecError, match="a mapping is expected"):
        form_of({**FULL, "smoke": ["seeds"]}, form)


def test_a_recipe_without_the_section_has_no_small_form() -> None:
    with pytest.raises(SpecError, match="no form `smoke`") as caught:
        form_of(FULL, "smoke")
    assert caught.value.field == "smoke"

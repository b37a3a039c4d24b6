"""Specs: what is accepted, what is refused, and that they survive the way through JSON."""

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from kdcore.distill.schedule import value_at
from kdcore.spec import experiment_adapter
from kdcore.spec.dataset import DatasetSource
from kdcore.spec.objective import Ramp

TRAIN = {"size": [64, 64], "steps": 100}
MODEL = {"arch": "unet", "encoder": "resnet18"}
DISTILLATION: dict[str, Any] = {
    "kind": "distillation",
    "name": "desert-b1",
    "dataset": "offroad@latest",
    "teachers": [
        {"name": "deeplab", "train": {"model": MODEL, "train": TRAIN}},
        {"name": "segformer", "model": "models:/segformer-b3@champion", "weight": 0.5},
    ],
    "ensemble": {"kind": "prob_mean"},
    "student": {"model": {"arch": "segformer", "encoder": "mit_b1"}},
    "objective": [
        {"kind": "ce", "weight": {"from": 0.7, "to": 0.3, "over": "train"}},
        {"kind": "dice", "weight": 0.4},
        {"kind": "kd", "weight": {"from": 0.3, "to": 0.7}, "temperature": 2},
        {"kind": "pkd", "taps": "auto"},
    ],
    "train": TRAIN,
    "unlabelled": {"share": 0.5},
    "seeds": [0, 1, 2],
}


def changed(path: str, value: object) -> dict[str, Any]:
    """A copy with one field replaced (or added)."""
    document = copy.deepcopy(DISTILLATION)
    target: Any = document
    *parents, last = [int(part) if part.isdigit() else part for part in path.split(".")]
    for part in parents:
        target = target[part]
    target[last] = value
    return document


def test_round_trip_through_json() -> None:
    experiment = experiment_adapter.validate_python(DISTILLATION)
    assert experiment_adapter.validate_python(experiment.to_json()) == experiment
    assert experiment_adapter.validate_json(experiment.model_dump_json(by_alias=True)) == experiment


@pytest.mark.parametrize(
    ("path", "value", "told"),
    [
        ("teachers", [], "at least 1"),
        ("teachers.0.model", "models:/a/1", "either `train` or `model`"),
        ("teachers.1.name", "deeplab", "teachers: names must be unique"),
        ("objective", [{"kind": "ce"}], "no term uses a teacher"),
        ("objective", [{"kind": "kd"}], "baseline: the objective has no label term"),
        ("objective", [{"kind": "ce"}, {"kind": "ce"}, {"kind": "kd"}], "ce does not"),
        ("teachers.0.train.objective", [{"kind": "ce"}, {"kind": "ce"}], "ce does not"),
        ("unlabelled.share", 0.01, "of a batch of 8 is 0 images"),
        ("latency", {"size": [-5, 0]}, "greater than or equal to 16"),
        ("train.optimizer", {"kind": "adamw", "betas": [1, 1]}, "less than 1"),
        ("train.optimizer", {"kind": "sgd", "momentum": 0, "nesterov": True}, "nesterov"),
        ("student.model.options", {"num_labels": 3}, "settled by the dataset"),
        ("objective.0.kind", "cee", "does not match any of the expected tags"),
        ("objective.2.temperature", 0, "greater than 0"),
        ("objective.2.temprature", 2, "Extra inputs"),
        ("objective.2.weight", float("nan"), "finite"),
        ("teachers.0.train.objective", [{"kind": "kd"}], "`kd` needs a teacher"),
        ("seeds", [0, 0], "seeds: must be unique"),
        ("train.steps", 0, "greater than or equal to 1"),
        ("train.warmup_steps", 100, "must be below steps"),
        ("train.schedule", {"kind": "warmup_stable_cosine", "warmup": 1}, "leave no steps"),
        (
            "train",
            {"schedule": {"kind": "warmup_stable_cosine"}, "warmup_steps": 9},
            "leave it out",
        ),
        ("train.augment", {"rotate": 200}, "less than or equal to 180"),
        ("unlabelled.share", 1, "less than 1"),
        ("unlabelled.min_confidence", 1.5, "less than or equal to 1"),
        ("unlabelled.compare_without", "perhaps", "valid boolean"),
        ("student.model.arch", "resnet", "Input should be"),
        ("name", "Desert B1", "match pattern"),
        ("dataset", "offroad@0", "match pattern"),
        ("train.views", 0, "greater than or equal to 1"),
        ("train.views", 65, "less than or equal to 64"),
        ("teacher_cache", {}, "teacher_cache: .* set `train.views`"),
        ("teacher_cache", {"dtype": "uint8"}, "'fp32' or 'fp16'"),
    ],
)
def test_refusals(path: str, value: object, told: str) -> None:
    with pytest.raises(ValidationError, match=told.replace("(", r"\(")):
        experiment_adapter.validate_python(changed(path, value))


def test_a_teacher_cache_needs_views_and_terms_of_logits() -> None:
    train = {**TRAIN, "views": 4}
    document = {**DISTILLATION, "train": train, "teacher_cache": {}}
    with pytest.raises(ValidationError, match=r"objective\.3: `pkd` compares features"):
        experiment_adapter.validate_python(document)
    document["objective"] = DISTILLATION["objective"][:3]
    experiment = experiment_adapter.validate_python(document)
    assert experiment.kind == "distillation"
    assert experiment.teacher_cache is not None


def test_the_baseline_minimises_the_label_terms_with_ramps_made_one() -> None:
    experiment = experiment_adapter.validate_python(DISTILLATION)
    assert experiment.kind == "distillation"
    assert [(term.kind, term.weight) for term in experiment.baseline_objective()] == [
        ("ce", 1.0),
        ("dice", 0.4),
    ]


@given(
    start=st.floats(0, 10),
    end=st.floats(0, 10),
    begin=st.floats(0, 0.9),
    length=st.floats(0.01, 0.1),
    shape=st.sampled_from(["linear", "cosine"]),
    steps=st.integers(2, 1000),
)
def test_a_ramp_starts_at_from_ends_at_to_and_stays_between(
    start: float, end: float, begin: float, length: float, shape: str, steps: int
) -> None:
    ramp = Ramp.model_validate(
        {"shape": shape, "from": start, "to": end, "over": [begin, begin + length]}
    )
    values = [value_at(ramp, step, steps) for step in range(steps)]
    assert values[0] == pytest.approx(start) or begin == 0
    assert values[-1] == pytest.approx(end)
    low, high = min(start, end), max(start, end)
    assert all(low - 1e-9 <= value <= high + 1e-9 for value in values)


def test_ramp_over_train_is_exact_at_both_ends() -> None:
    ramp = Ramp.model_validate({"from": 0.7, "to": 0.3})
    assert value_at(ramp, 0, 101) == pytest.approx(0.7)
    assert value_at(ramp, 50, 101) == pytest.approx(0.5)
    assert value_at(ramp, 100, 101) == pytest.approx(0.3)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"classes": [{"name": "a"}]}, "at least 2"),
        ({"classes": [{"name": "a"}, {"name": "a"}]}, "names must be unique"),
        ({"classes": [{"name": "a", "raw_ids": [1]}, {"name": "b"}]}, "one class only"),
        ({"classes": [{"name": "a", "raw_ids": [255]}, {"name": "b"}]}, "ignore_index"),
        ({"splits": {"train": "train"}}, "`train` and `val` are required"),
        ({"layout": {"kind": "folders", "images": "../x"}}, "stays below its folder"),
        ({"layout": {"kind": "folders", "images": "/etc"}}, "stays below its folder"),
    ],
)
def test_dataset_refusals(change: dict[str, Any], told: str) -> None:
    source = {"name": "a", "root": ".", "classes": [{"name": "a"}, {"name": "b"}], **change}
    with pytest.raises(ValidationError, match=told):
        DatasetSource.model_validate(source)

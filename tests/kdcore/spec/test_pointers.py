"""Errors name the path in the user's document, whatever unions the specs are made of."""

from typing import Any

import pytest
from pydantic import ValidationError

from api.remedies import remedy
from api.spec_schemas import schema
from kdcore.spec import experiment_adapter
from kdcore.spec.pointers import Located, dotted, locate, pointer
from tests.api.documents import MODEL, TRAIN, Json, distillation, training


def located(document: Any) -> list[Located]:
    with pytest.raises(ValidationError) as caught:
        experiment_adapter.validate_python(document)
    return locate(caught.value.errors(), document)


def pointers(document: Any) -> list[str]:
    return [pointer(item.path) for item in located(document)]


def teacher(**changes: Any) -> Json:
    return {"name": "big", "train": {"model": MODEL, "train": {**TRAIN, **changes}}}


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        (training(priority=101), ["/priority"]),
        (training(train={**TRAIN, "batch": 0}), ["/train/batch"]),
        (training(train={**TRAIN, "size": [16]}), ["/train/size/1"]),
        (training(train={**TRAIN, "size": [16, "wide"]}), ["/train/size/1"]),
        (training(model={"arch": "unet"}), ["/model/encoder"]),
        (training(train={**TRAIN, "evaluate_every": "never"}), ["/train/evaluate_every"]),
        (
            training(train={**TRAIN, "optimizer": {"kind": "sgd", "lr": -1}}),
            ["/train/optimizer/lr"],
        ),
        (training(train={**TRAIN, "optimizer": {"kind": "lion"}}), ["/train/optimizer/kind"]),
        (training(train={**TRAIN, "optimizer": {"lr": 1}}), ["/train/optimizer/kind"]),
        (training(train={**TRAIN, "optimizer": 3}), ["/train/optimizer"]),
        (training(objective=[{"kind": "dice", "eps": 0}]), ["/objective/0/eps"]),
        (training(objective=[{"kind": "dice", "dice": 1}]), ["/objective/0/dice"]),
        (distillation(teachers=[teacher(batch=0)]), ["/teachers/0/train/train/batch"]),
        (distillation(teachers=[teacher(), teacher(stepz=1)]), ["/teachers/1/train/train/stepz"]),
        (
            distillation(teachers=[teacher(optimizer={"kind": "adamw", "betas": [0.9, 2]})]),
            ["/teachers/0/train/train/optimizer/betas/1"],
        ),
        (distillation(objective=[{"kind": "kd", "weight": -1}]), ["/objective/0/weight"]),
        (
            distillation(objective=[{"kind": "kd", "weight": {"from": -1, "to": 1}}]),
            ["/objective/0/weight/from"],
        ),
        (
            distillation(objective=[{"kind": "kd", "weight": {"from": 0}}]),
            ["/objective/0/weight/to"],
        ),
        (distillation(baseline={"objective": 3}), ["/baseline/objective"]),
        (distillation(baseline={"objective": [{"kind": "kd"}]}), ["/baseline/objective"]),
        (distillation(baseline="maybe"), ["/baseline"]),
        (
            distillation(baseline={"objective": [{"kind": "ce", "weight": "x"}]}),
            ["/baseline/objective/0/weight"],
        ),
        (distillation(distillation={}), ["/distillation"]),
        (distillation(distillation={"teachers": []}, seeds=[-1]), ["/seeds/0", "/distillation"]),
        ({**distillation(), "kind": "distilation"}, ["/kind"]),
        ({"name": "x"}, ["/kind"]),
        ([], [""]),
        (None, [""]),
        ("distillation", [""]),
        (distillation(**{"a/b~c": 1}), ["/a~1b~0c"]),
    ],
)
def test_pointer_is_the_path_in_the_document(document: Any, expected: list[str]) -> None:
    assert pointers(document) == expected


def test_several_errors_keep_their_own_paths() -> None:
    document = distillation(
        seeds=[0, -1],
        teachers=[{"name": "BIG", "model": "models:/a/1", "weight": 0}],
        train={**TRAIN, "steps": 0, "optimizer": {"kind": "sgd", "momentum": 2}},
    )
    assert pointers(document) == [
        "/seeds/1",
        "/teachers/0/name",
        "/teachers/0/weight",
        "/train/steps",
        "/train/optimizer/momentum",
    ]


@pytest.mark.parametrize(
    ("document", "path", "message"),
    [
        (training(seeds=[1, 1]), "seeds", "must be unique"),
        (
            training(train={**TRAIN, "warmup_steps": 10}),
            "train.warmup_steps",
            "must be below steps",
        ),
        (
            distillation(objective=[{"kind": "ce"}]),
            "objective",
            "no term uses a teacher; add one such as `kd`",
        ),
        (
            distillation(teachers=[{"name": "big"}]),
            "teachers.0",
            "a teacher has either `train` or `model`",
        ),
        (
            distillation(
                objective=[{"kind": "ce"}, {"kind": "pkd"}],
                train={**TRAIN, "views": 4},
                teacher_cache={},
            ),
            "objective.1",
            (
                "`pkd` compares features, and `teacher_cache` keeps logits alone; "
                "leave one of the two out"
            ),
        ),
    ],
)
def test_checks_across_fields_point_at_the_field_they_name(
    document: Json, path: str, message: str
) -> None:
    (error,) = located(document)
    assert dotted(error.path) == path
    assert error.message == message


def test_alternatives_at_one_path_are_one_error() -> None:
    (error,) = located(training(train={**TRAIN, "evaluate_every": "never"}))
    assert "'auto'" in error.message
    assert "; or: " in error.message
    assert "integer" in error.message


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        (training(trian=TRAIN, seeds=[0]), "Did you mean `train`?"),
        (distillation(teachers=[teacher(bacth=2)]), "Did you mean `batch`?"),
        (distillation(objective=[{"kind": "kd", "temprature": 2}]), "Did you mean `temperature`?"),
        (training(model={"arch": "segfomer", "encoder": "mit_b0"}), "Did you mean `segformer`?"),
        ({**training(), "kind": "trainning"}, "Did you mean `training`?"),
        (
            training(train={**TRAIN, "early_stop": {"zzz": 1}}),
            "Remove the field; known here: `patience`.",
        ),
        (
            training(model={"arch": "unet"}),
            "Add it: smp or timm (`tu-...`) encoder; for segformer `mit_b0` .. `mit_b5`",
        ),
        (training(priority=101), None),
    ],
)
def test_remedy(document: Json, expected: str | None) -> None:
    error = located(document)[0]
    assert remedy(error, schema("experiment"), document) == expected

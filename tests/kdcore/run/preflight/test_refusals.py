"""What does not fit together is refused before the first step, with the field to mend."""

import json
from typing import Any

import pytest

from kdcore.run.directory import run_directory
from kdcore.spec.outcome import Failure, FailureKind
from kdcore.spec.rundir import CHECKPOINTS, DATASET, DATASET_MANIFEST
from tests.kdcore.conftest import FitSpec, LayOut


def failure_of(run: Any) -> Failure:
    outcome = run_directory(run)
    assert outcome.status == "failed"
    assert outcome.failure is not None
    assert not (run / CHECKPOINTS).exists(), "refused before any training"
    return outcome.failure


@pytest.fixture
def distillation(lay_out: LayOut, fit_spec: FitSpec) -> tuple[FitSpec, dict[str, Any]]:
    teacher = lay_out("teacher", {**fit_spec, "train": {**fit_spec["train"], "steps": 2}})
    assert run_directory(teacher).status == "succeeded"
    spec = {
        **fit_spec,
        "objective": [{"kind": "ce"}, {"kind": "kd"}],
        "teachers": [{"name": "one", "path": "inputs/models/one"}],
    }
    return spec, {"inputs/models/one": teacher / "model"}


def test_a_teacher_of_other_classes(
    lay_out: LayOut, distillation: tuple[FitSpec, dict[str, Any]]
) -> None:
    spec, inputs = distillation
    card_path = inputs["inputs/models/one"] / "model.json"
    card = json.loads(card_path.read_text())
    card["classes"][1]["name"] = "square"
    card_path.write_text(json.dumps(card))
    failure = failure_of(lay_out("run", spec, inputs))
    assert failure.kind == FailureKind.PREFLIGHT_FAILED
    assert failure.field == "teachers.0.classes"
    assert "square" in failure.message
    assert "disc" in failure.message
    assert "disc: null" in str(failure.remedy)


def test_a_teacher_below_the_floor(
    lay_out: LayOut, distillation: tuple[FitSpec, dict[str, Any]]
) -> None:
    spec, inputs = distillation
    failure = failure_of(lay_out("run", {**spec, "preflight": {"min_teacher_miou": 0.99}}, inputs))
    assert failure.field == "preflight.min_teacher_miou"


def test_weights_that_do_not_belong_to_the_card(
    lay_out: LayOut, distillation: tuple[FitSpec, dict[str, Any]]
) -> None:
    spec, inputs = distillation
    (inputs["inputs/models/one"] / "model.safetensors").write_bytes(b"\0" * 64)
    failure = failure_of(lay_out("run", spec, inputs))
    assert failure.kind == FailureKind.INVALID_SPEC
    assert failure.field == "teachers.0.model"


def test_unknown_stages(lay_out: LayOut, distillation: tuple[FitSpec, dict[str, Any]]) -> None:
    spec, inputs = distillation
    objective = [{"kind": "ce"}, {"kind": "pkd", "taps": [["stride4", "stride7"]]}]
    failure = failure_of(lay_out("run", {**spec, "objective": objective}, inputs))
    assert failure.field == "objective.1.taps"
    assert "stride8" in str(failure.remedy)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"model": {"arch": "unet", "encoder": "resnet1800"}}, "model.encoder"),
        ({"model": {"arch": "unet", "encoder": "tu-resnet1800"}}, "model.encoder"),
        ({"model": {"arch": "unet", "encoder": "resnet18", "weights": "missing.pth"}},
         "model.weights"),
        ({"model": {"arch": "segformer", "encoder": "resnet18"}}, "model.encoder"),
        ({"objective": [{"kind": "ce", "class_weights": [1, 2]}]}, "objective.0.class_weights"),
        ({"model": {"arch": "segformer", "encoder": "mit_b0", "options": {"dept": 3}}},
         "model.options.dept"),
    ],
)  # fmt: skip
def test_specs_that_cannot_be_built(
    lay_out: LayOut, fit_spec: FitSpec, change: FitSpec, field: str
) -> None:
    failure = failure_of(lay_out("run", {**fit_spec, **change}))
    assert failure.kind == FailureKind.INVALID_SPEC
    assert failure.field == field


@pytest.mark.parametrize(
    ("arch", "encoder", "meant"),
    [("unet", "resnet81", "resnet18"), ("unet", "tu-mobilenetv3_smal_050", "tu-mobilenetv3_small_050"),
     ("segformer", "mit-b0", "mit_b0"), ("macunet", "studnet", "student")],
)  # fmt: skip
def test_the_nearest_encoder_is_named(
    lay_out: LayOut, fit_spec: FitSpec, arch: str, encoder: str, meant: str
) -> None:
    failure = failure_of(lay_out("run", {**fit_spec, "model": {"arch": arch, "encoder": encoder}}))
    assert failure.field == "model.encoder"
    assert f"{meant}" in str(failure.remedy).removesuffix("?").split()


def test_a_batch_that_batch_norm_cannot_take(lay_out: LayOut, fit_spec: FitSpec) -> None:
    spec = {
        **fit_spec,
        "model": {"arch": "deeplabv3plus", "encoder": "tu-mobilenetv3_small_050"},
        "train": {**fit_spec["train"], "batch": 1},
    }
    failure = failure_of(lay_out("run", spec))
    assert failure.kind == FailureKind.PREFLIGHT_FAILED
    assert "train.batch" in str(failure.remedy)


def test_a_changed_dataset(lay_out: LayOut, fit_spec: FitSpec) -> None:
    run = lay_out("run", {**fit_spec, "dataset": "0" * 64})
    assert failure_of(run).field == "dataset"
    run = lay_out("gone", fit_spec)
    (run / DATASET / "val").unlink()
    failure = failure_of(run)
    assert failure.kind == FailureKind.DATASET_CHANGED
    assert "val/" in failure.message


def test_a_pool_that_does_not_exist(lay_out: LayOut, fit_spec: FitSpec, manifest: Any) -> None:
    poor = manifest.model_copy(update={"unlabelled": ()})
    run = lay_out("run", {**fit_spec, "dataset": poor.fingerprint(), "unlabelled": {"share": 0.5}})
    (run / DATASET_MANIFEST).write_text(poor.model_dump_json())
    assert failure_of(run).field == "unlabelled"


def test_a_spec_that_is_none(lay_out: LayOut, fit_spec: FitSpec) -> None:
    run = lay_out("run", fit_spec)
    (run / "spec.json").write_text('{"kind": "fit", "sed": 1}')
    assert failure_of(run).kind == FailureKind.INVALID_SPEC

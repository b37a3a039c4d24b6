"""The preflight inside a run: what its log says, and what a class map does from spec to verdict."""

import json
from pathlib import Path
from typing import Any

import pytest

from kdcore.run.directory import run_directory
from kdcore.run.preflight import first_batch
from kdcore.spec.dataset import DatasetManifest
from kdcore.spec.job import CompareJob
from kdcore.spec.outcome import FailureKind
from kdcore.spec.rundir import DATASET_MANIFEST, SPEC, VERDICT
from tests.kdcore.conftest import FitSpec, LayOut
from tests.kdcore.run.preflight.test_refusals import distillation, failure_of
from tests.kdcore.train.test_training import events

__all__ = ["distillation"]

ONE = "inputs/models/one"


@pytest.fixture
def foreign(distillation: tuple[FitSpec, dict[str, Any]]) -> tuple[FitSpec, dict[str, Any]]:
    """A teacher that says earth for ground and square for disc, and does not know rim."""
    spec, inputs = distillation
    card_path = inputs[ONE] / "model.json"
    card = json.loads(card_path.read_text())
    for entry, name in zip(card["classes"], ("earth", "square", "shadow"), strict=True):
        entry["name"] = name
    card_path.write_text(json.dumps(card))
    names = {"ground": "earth", "disc": "square", "rim": None}
    teachers = [{"name": "one", "path": ONE, "classes": names}]
    return {**spec, "teachers": teachers}, inputs


def test_the_estimate_is_in_the_log(lay_out: LayOut, fit_spec: FitSpec) -> None:
    run = lay_out("run", {**fit_spec, "train": {**fit_spec["train"], "steps": 1, "batch": 4}})
    assert run_directory(run).status == "succeeded"
    values = events(run, "metric")[0]["values"]
    assert values["memory/gradients"] > 0
    assert values["memory/optimizer"] == 2 * values["memory/gradients"]
    assert values["memory/activations"] > 0
    parts = sum(value for name, value in values.items() if name != "memory/needed")
    assert values["memory/needed"] == parts
    assert events(run, "warning") == []


def test_a_batch_too_large_for_the_memory_is_refused_before_it_is_tried(
    lay_out: LayOut, fit_spec: FitSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kdcore.run.preflight.free_bytes", lambda _: 17_000_000)
    tried: list[int] = []
    real = first_batch._step

    def step(parts: Any, batch: Any) -> None:
        tried.append(len(batch.labels_NHW))
        real(parts, batch)

    monkeypatch.setattr(first_batch, "_step", step)
    spec = {**fit_spec, "train": {**fit_spec["train"], "steps": 1, "batch": 64}}
    failure = failure_of(lay_out("large", spec))
    assert failure.kind == FailureKind.OUT_OF_MEMORY
    assert failure.field == "train.batch"
    assert tried == [2]
    fitting = int(str(failure.remedy).split()[3])
    spec = {**fit_spec, "train": {**fit_spec["train"], "steps": 1, "batch": fitting}}
    assert run_directory(lay_out("fitting", spec)).status == "succeeded"


def test_ignored_pixels_and_absent_classes(
    lay_out: LayOut, fit_spec: FitSpec, manifest: DatasetManifest
) -> None:
    """Statistics that say so are enough: the preflight does not read the masks again."""
    train = manifest.statistics["train"].model_copy(
        update={"class_pixels": (100, 100, 0), "ignored_pixels": 800}
    )
    poor = manifest.model_copy(update={"statistics": {**manifest.statistics, "train": train}})
    spec = {**fit_spec, "dataset": poor.fingerprint()}
    spec["train"] = {**spec["train"], "steps": 1, "size": [40, 32]}
    run = lay_out("told", spec)
    (run / DATASET_MANIFEST).write_text(poor.model_dump_json())
    assert run_directory(run).status == "succeeded"
    codes = [event["code"] for event in events(run, "warning")]
    assert codes == ["much_ignored", "absent_classes", "padded_crop"]
    run = lay_out("refused", {**spec, "preflight": {"max_ignored": 0.7}})
    (run / DATASET_MANIFEST).write_text(poor.model_dump_json())
    assert failure_of(run).field == "preflight.max_ignored"


def test_a_teacher_of_other_classes_teaches_by_its_map(
    lay_out: LayOut, foreign: tuple[FitSpec, dict[str, Any]]
) -> None:
    spec, inputs = foreign
    run = lay_out("run", {**spec, "train": {**spec["train"], "steps": 2}}, inputs)
    assert run_directory(run).status == "succeeded"
    told = {event["code"]: event["message"] for event in events(run, "warning")}
    assert "does not know rim" in told["unknown_classes"]
    assert "shadow of teacher one" in told["classes_left_out"]


def test_a_wrong_name_is_refused_at_its_entry(
    lay_out: LayOut, foreign: tuple[FitSpec, dict[str, Any]]
) -> None:
    spec, inputs = foreign
    names = {"ground": "eart", "disc": "square", "rim": None}
    teachers = [{**spec["teachers"][0], "classes": names}]
    failure = failure_of(lay_out("run", {**spec, "teachers": teachers}, inputs))
    assert failure.field == "teachers.0.classes.ground"
    assert failure.remedy == "did you mean earth?"


def test_the_floor_holds_for_what_a_teacher_knows(
    lay_out: LayOut, foreign: tuple[FitSpec, dict[str, Any]]
) -> None:
    spec, inputs = foreign
    preflight = {"preflight": {"min_teacher_miou": 0.99}}
    failure = failure_of(lay_out("run", {**spec, **preflight}, inputs))
    assert failure.field == "preflight.min_teacher_miou"


def compare(lay_out: LayOut, spec: FitSpec, model: Path, classes: Any) -> dict[str, Any]:
    job = CompareJob.model_validate(
        {
            "dataset": spec["dataset"],
            "contestants": [
                {"role": "teacher", "name": "one", "path": ONE, "classes": classes},
            ],
            "latency": {"warmup": 0, "runs": 1},
        }
    )
    run = lay_out("compare", spec, {ONE: model})
    (run / SPEC).write_text(job.model_dump_json())
    outcome = run_directory(run)
    assert outcome.status == "succeeded", outcome.failure
    verdict: dict[str, Any] = json.loads((run / VERDICT).read_text())
    return verdict


def test_the_comparison_scores_a_teacher_on_what_it_knows(
    lay_out: LayOut, foreign: tuple[FitSpec, dict[str, Any]]
) -> None:
    spec, inputs = foreign
    verdict = compare(lay_out, spec, inputs[ONE], spec["teachers"][0]["classes"])
    row = verdict["contestants"][0]
    assert row["iou"][2] is None
    assert row["miou"] == pytest.approx(sum(row["iou"][:2]) / 2)

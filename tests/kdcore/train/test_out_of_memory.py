"""A device that has no room for the batch: split once, then refused with what was estimated."""

import pytest
import torch
from safetensors.torch import load_file

from kdcore.distill.lesson import Lesson
from kdcore.distill.objective import Objective, Total
from kdcore.models.network import SegmentationModel
from kdcore.run.directory import run_directory
from kdcore.spec.outcome import FailureKind
from kdcore.spec.rundir import MODEL_WEIGHTS
from tests.kdcore.conftest import FitSpec, LayOut
from tests.kdcore.train.test_resume import StopAfter, assert_bit_equal
from tests.kdcore.train.test_training import events, with_train

AT_STEP = 4
WITHOUT_BATCH_NORM = {
    "arch": "unet",
    "encoder": "tu-convnext_zepto_rms",
    "options": {"decoder_channels": [16, 8, 8, 8, 8], "decoder_use_norm": False},
}


def lack(monkeypatch: pytest.MonkeyPatch, *, room_for: int) -> None:
    """From a step on the device has room for so many images."""
    real = Objective.loss

    def loss(
        self: Objective,
        student: SegmentationModel,
        lesson: Lesson,
        step: int,
        *,
        whole: Lesson | None = None,
    ) -> Total:
        if student.training and step >= AT_STEP and len(lesson.batch.images_NCHW) > room_for:
            raise torch.OutOfMemoryError("no room for 1.2 GiB")
        return real(self, student, lesson, step, whole=whole)

    monkeypatch.setattr(Objective, "loss", loss)


def test_the_batch_is_split_once_and_the_training_is_the_same(
    lay_out: LayOut, fit_spec: FitSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    # In bf16 sums in another order are not close.
    train = {"batch": 4, "ema": None, "steps": 10, "precision": "fp32"}
    spec = {**with_train(fit_spec, **train), "model": WITHOUT_BATCH_NORM}
    whole, split = lay_out("whole", spec), lay_out("split", spec)
    assert run_directory(whole).status == "succeeded"
    lack(monkeypatch, room_for=2)
    assert run_directory(split).status == "succeeded"
    (warning,) = events(split, "warning")
    assert warning["code"] == "batch_split"
    assert "at step 4" in warning["message"]
    assert "2 parts" in warning["message"]
    one, other = (events(run, "metric")[1]["values"] for run in (whole, split))
    assert other == pytest.approx(one, rel=1e-4)
    first, second = load_file(whole / MODEL_WEIGHTS), load_file(split / MODEL_WEIGHTS)
    for name, value in first.items():
        torch.testing.assert_close(second[name], value, rtol=1e-2, atol=1e-4)


def test_a_resumed_run_goes_on_split(
    lay_out: LayOut, fit_spec: FitSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = with_train(fit_spec, batch=4)
    undisturbed, stopped = lay_out("undisturbed", spec), lay_out("stopped", spec)
    with monkeypatch.context() as patch:
        lack(patch, room_for=2)
        assert run_directory(undisturbed).status == "succeeded"
        StopAfter(7, patch)
        assert run_directory(stopped).status == "interrupted"
    assert run_directory(stopped).status == "succeeded", "now there would be room for all"
    assert [event["code"] for event in events(stopped, "warning")] == ["batch_split"]
    assert_bit_equal(undisturbed, stopped)


@pytest.mark.parametrize(
    ("room_for", "batch", "warnings"),
    [(1, 4, ["batch_split"]), (2, 3, [])],
    ids=["the parts do not fit", "a part would be one image, too few for batch norm"],
)
def test_without_room_it_fails_and_says_what_was_estimated(
    lay_out: LayOut,
    fit_spec: FitSpec,
    monkeypatch: pytest.MonkeyPatch,
    room_for: int,
    batch: int,
    warnings: list[str],
) -> None:
    run = lay_out("run", with_train(fit_spec, batch=batch))
    lack(monkeypatch, room_for=room_for)
    outcome = run_directory(run)
    assert outcome.failure is not None
    assert outcome.failure.kind == FailureKind.OUT_OF_MEMORY
    assert outcome.failure.field == "train.batch"
    assert "no room for 1.2 GiB" in outcome.failure.message
    assert f"a batch of {batch} was estimated to need" in outcome.failure.message
    assert "activations" in outcome.failure.message
    assert [event["code"] for event in events(run, "warning")] == warnings

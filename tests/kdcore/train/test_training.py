"""What the loop promises besides resuming."""

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from kdcore.distill.objective import Objective, Total
from kdcore.models import load_model
from kdcore.run.directory import run_directory
from kdcore.spec.outcome import FailureKind
from kdcore.spec.rundir import CHECKPOINTS, EVENTS, MODEL_WEIGHTS
from kdcore.spec.train import AdamW, TrainSpec, WarmupStableCosine
from kdcore.train.finite import FiniteCheck
from kdcore.train.optimizer import learning_rate_factor
from tests.kdcore.conftest import FitSpec, LayOut


def events(run: Path, kind: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (run / EVENTS).read_text().splitlines()]
    return [line for line in lines if line["type"] == kind]


def with_train(spec: FitSpec, **changes: object) -> FitSpec:
    return {**spec, "train": {**spec["train"], **changes}}


def test_it_learns_the_shapes(lay_out: LayOut, fit_spec: FitSpec) -> None:
    # In a crop of 32 the deepest map is a single pixel, and its batch norm learns nothing of use.
    spec = with_train(
        fit_spec, size=[64, 64], batch=4, steps=80, evaluate_every=40,
        optimizer={"kind": "adamw", "lr": 0.01},
    )  # fmt: skip
    run = lay_out("run", spec)
    outcome = run_directory(run)
    assert outcome.status == "succeeded"
    assert outcome.metrics["val/miou"] > 0.6
    losses = [event["values"]["train/loss"] for event in events(run, "metric")
              if "train/loss" in event["values"]]  # fmt: skip
    assert losses[-1] < losses[0] / 2


def test_it_starts_from_the_weights_among_its_inputs(lay_out: LayOut, fit_spec: FitSpec) -> None:
    first = lay_out("first", with_train(fit_spec, steps=2))
    assert run_directory(first).status == "succeeded"
    weights = "inputs/models/start/model.safetensors"
    still = with_train(fit_spec, steps=1, ema=None, optimizer={"kind": "sgd", "lr": 1e-12})
    second = lay_out(
        "second",
        {**still, "model": {**still["model"], "weights": weights}},
        {"inputs/models/start": first / "model"},
    )
    assert run_directory(second).status == "succeeded"
    before, after = (load_file(run / MODEL_WEIGHTS) for run in (first, second))
    learned = [name for name, value in before.items() if value.ndim > 1]
    assert learned
    for name in learned:
        torch.testing.assert_close(after[name], before[name])


def test_the_teacher_is_the_same_afterwards(lay_out: LayOut, fit_spec: FitSpec) -> None:
    teacher = lay_out("teacher", with_train(fit_spec, steps=2))
    assert run_directory(teacher).status == "succeeded"
    file = (teacher / MODEL_WEIGHTS).read_bytes()
    captured: list[tuple[Any, dict[str, torch.Tensor]]] = []

    class Watched(Objective):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            model = args[2][0].model
            captured.append((model, {k: v.clone() for k, v in model.net.state_dict().items()}))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("kdcore.run.fit.Objective", Watched)
        spec = {
            **with_train(fit_spec, steps=4),
            "objective": [{"kind": "ce"}, {"kind": "kd"}],
            "teachers": [{"name": "one", "path": "inputs/models/one"}],
        }
        run = lay_out("run", spec, {"inputs/models/one": teacher / "model"})
        assert run_directory(run).status == "succeeded"
    model, before = captured[0]
    after = model.net.state_dict()
    assert before
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert not model.training
    assert (teacher / MODEL_WEIGHTS).read_bytes() == file


def test_two_teachers_teach_by_their_weights(lay_out: LayOut, fit_spec: FitSpec) -> None:
    inputs = {}
    for seed in (1, 2):
        teacher = lay_out(f"teacher-{seed}", {**with_train(fit_spec, steps=2), "seed": seed})
        assert run_directory(teacher).status == "succeeded"
        inputs[f"inputs/models/t{seed}"] = teacher / "model"

    def distilled(name: str, weights: tuple[float, float]) -> dict[str, float]:
        spec = {
            **with_train(fit_spec, steps=10),
            "objective": [{"kind": "ce"}, {"kind": "kd"}, {"kind": "pkd", "weight": 0.1}],
            "ensemble": {"kind": "prob_mean"},
            "teachers": [
                {"name": f"t{seed}", "path": f"inputs/models/t{seed}", "weight": weight}
                for seed, weight in zip((1, 2), weights, strict=True)
            ],
        }
        run = lay_out(name, spec, inputs)
        assert run_directory(run).status == "succeeded"
        values: dict[str, float] = events(run, "metric")[1]["values"]
        return values

    even, doubled, other = (
        distilled("even", (1, 1)),
        distilled("doubled", (2, 2)),
        distilled("other", (1, 9)),
    )
    assert even == doubled, "only the ratio of the weights matters"
    assert even["train/kd"] != other["train/kd"]
    assert even["train/pkd"] > 0


def test_adapters_are_trained_but_never_given_away(lay_out: LayOut, fit_spec: FitSpec) -> None:
    teacher = lay_out("teacher", with_train(fit_spec, steps=2))
    assert run_directory(teacher).status == "succeeded"
    spec = {
        **with_train(fit_spec, steps=4),
        "model": {**fit_spec["model"], "encoder": "tu-mobilenetv3_small_075"},
        "objective": [{"kind": "ce"}, {"kind": "pkd"}],
        "teachers": [{"name": "one", "path": "inputs/models/one"}],
    }
    run = lay_out("run", spec, {"inputs/models/one": teacher / "model"})
    assert run_directory(run).status == "succeeded"
    model, card = load_model(run / "model")
    assert load_file(run / MODEL_WEIGHTS).keys() == model.net.state_dict().keys()
    assert card.model.encoder == "tu-mobilenetv3_small_075"
    state = torch.load(next((run / CHECKPOINTS).glob("*04/state.pt")), weights_only=True)
    assert any("adapter" in name for name in state["objective"])


def test_baseline_and_distilled_start_alike_and_see_the_same_images(
    lay_out: LayOut, fit_spec: FitSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    teacher = lay_out("teacher", with_train(fit_spec, steps=2))
    assert run_directory(teacher).status == "succeeded"
    seen: list[tuple[dict[str, torch.Tensor], torch.Tensor]] = []
    real = Objective.forward

    def forward(self: Objective, student: Any, batch: Any, step: int) -> Total:
        if step == 0 and student.training:
            state = {name: value.clone() for name, value in student.net.state_dict().items()}
            seen.append((state, batch.images_NCHW.clone()))
        return real(self, student, batch, step)

    monkeypatch.setattr(Objective, "forward", forward)
    plain = with_train(fit_spec, steps=1)
    distilled = {
        **plain,
        "objective": [{"kind": "ce"}, {"kind": "kd"}],
        "teachers": [{"name": "one", "path": "inputs/models/one"}],
    }
    inputs = {"inputs/models/one": teacher / "model"}
    for run in (lay_out("plain", plain), lay_out("distilled", distilled, inputs)):
        assert run_directory(run).status == "succeeded"
    assert len(seen) == 4, "preflight and first step of each; preflight leaves no trace"
    state_1, images_1 = seen[0]
    for state_2, images_2 in seen[1:]:
        assert all(torch.equal(state_1[name], state_2[name]) for name in state_1)
        assert torch.equal(images_1, images_2)


def poison(monkeypatch: pytest.MonkeyPatch, *, at_step: int, times: int) -> None:
    """Make the loss NaN at a step, a number of times."""
    real, left = Objective.forward, [times]

    def forward(self: Objective, student: Any, batch: Any, step: int) -> Total:
        total = real(self, student, batch, step)
        if step == at_step and student.training and left[0] > 0:
            left[0] -= 1
            return Total(total.loss * float("nan"), total.terms)
        return total

    monkeypatch.setattr(Objective, "forward", forward)


@pytest.fixture(params=[1, 10], ids=["each step looked at", "ten steps looked at together"])
def looks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a CPU, and as on a GPU."""
    monkeypatch.setattr(
        "kdcore.train.trainer.FiniteCheck", lambda _, ranks: FiniteCheck(request.param, ranks)
    )


@pytest.mark.usefixtures("looks")
def test_one_nan_is_rolled_back(
    lay_out: LayOut, fit_spec: FitSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    undisturbed, run = lay_out("undisturbed", fit_spec), lay_out("run", fit_spec)
    assert run_directory(undisturbed).status == "succeeded"
    poison(monkeypatch, at_step=7, times=1)
    assert run_directory(run).status == "succeeded"
    warned = events(run, "warning")
    assert [event["code"] for event in warned] == ["rolled_back"]
    assert "at step 7" in warned[0]["message"]
    assert "back to step 5" in warned[0]["message"]
    one, other = load_file(undisturbed / MODEL_WEIGHTS), load_file(run / MODEL_WEIGHTS)
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.usefixtures("looks")
def test_nan_again_fails_and_keeps_the_last_good_checkpoint(
    lay_out: LayOut, fit_spec: FitSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = lay_out("run", fit_spec)
    poison(monkeypatch, at_step=7, times=2)
    outcome = run_directory(run)
    assert outcome.status == "failed"
    assert outcome.failure is not None
    assert outcome.failure.kind == FailureKind.NON_FINITE_LOSS
    assert outcome.failure.field == "train.optimizer.lr"
    assert max(folder.name for folder in (run / CHECKPOINTS).iterdir()) == "step-00000005"


@pytest.mark.usefixtures("looks")
def test_an_infinite_gradient_of_a_finite_loss_is_no_step(
    lay_out: LayOut, fit_spec: FitSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Objective.forward

    def forward(self: Objective, student: Any, batch: Any, step: int) -> Total:
        total = real(self, student, batch, step)
        weight = next(student.parameters())
        if step == 4 and student.training and weight.requires_grad:
            weight.register_hook(lambda grad: grad * float("inf"))
        return total

    monkeypatch.setattr(Objective, "forward", forward)
    run = lay_out("run", fit_spec)
    outcome = run_directory(run)
    assert outcome.failure is not None
    assert outcome.failure.kind == FailureKind.NON_FINITE_LOSS
    assert "gradient" in outcome.failure.message
    for path in (run / CHECKPOINTS).glob("*/state.pt"):
        state = torch.load(path, weights_only=True)
        assert all(torch.isfinite(value).all() for value in state["model"].values())


def test_every_term_is_reported_before_and_after_its_weight(
    lay_out: LayOut, fit_spec: FitSpec
) -> None:
    spec = {
        **with_train(fit_spec, steps=10),
        "objective": [{"kind": "ce", "weight": 0.5}, {"kind": "dice", "weight": 2.0}],
    }
    run = lay_out("run", spec)
    assert run_directory(run).status == "succeeded"
    values = next(e["values"] for e in events(run, "metric") if "train/loss" in e["values"])
    assert values["train/ce_weighted"] == pytest.approx(0.5 * values["train/ce"])
    assert values["train/dice_weighted"] == pytest.approx(2 * values["train/dice"])
    total = values["train/ce_weighted"] + values["train/dice_weighted"]
    assert values["train/loss"] == pytest.approx(total, rel=1e-5)


def test_speed_is_told_with_the_metrics_and_in_the_outcome(
    lay_out: LayOut, fit_spec: FitSpec
) -> None:
    run = lay_out("run", fit_spec)
    outcome = run_directory(run)
    told = [event for event in events(run, "metric") if "speed/input_stall" in event["values"]]
    assert [event["step"] for event in told] == [10, 20]
    for values in (*(event["values"] for event in told), outcome.speed):
        assert values["speed/images_per_second"] > 0
        assert 0 < values["speed/input_stall"] < 1


def test_learning_rates() -> None:
    poly = TrainSpec(steps=100, warmup_steps=10)
    assert learning_rate_factor(poly, 0) == pytest.approx(0.1)
    assert learning_rate_factor(poly, 10) == 1
    assert learning_rate_factor(poly, 55) == pytest.approx(0.5**0.9)
    cosine = TrainSpec(steps=100, schedule="cosine")
    assert learning_rate_factor(cosine, 50) == pytest.approx(0.5)
    assert learning_rate_factor(TrainSpec(schedule="constant"), 900) == 1


def test_warm_up_stay_and_come_down_along_a_cosine() -> None:
    """The IDD system's 1e-4 → 1e-3 → 1e-4 over 16, 6 and 78 % of the steps."""
    spec = TrainSpec(
        steps=1001, optimizer=AdamW(lr=1e-3), schedule=WarmupStableCosine(warmup=0.16, stable=0.06)
    )
    rates = [1e-3 * learning_rate_factor(spec, step) for step in range(spec.steps)]
    assert (rates[0], rates[-1]) == pytest.approx((1e-4, 1e-4))
    assert rates[80] == pytest.approx((1e-4 + 1e-3) / 2)
    assert rates[160:221] == pytest.approx([1e-3] * 61)
    assert rates[220 + 390] == pytest.approx((1e-4 + 1e-3) / 2)
    assert all(later > earlier for earlier, later in pairwise(rates[:161]))
    assert all(later < earlier for earlier, later in pairwise(rates[220:]))

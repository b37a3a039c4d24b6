"""Two processes train one run: the same loss curve, exact resume, no orphans, clear failures."""

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from safetensors.torch import load_file

from kdcore.run.directory import read_outcome, run_directory
from kdcore.run.recipe import read_recipe
from kdcore.spec.outcome import EXIT_INTERRUPTED, FailureKind
from kdcore.spec.rundir import EVENTS, MODEL_WEIGHTS
from kdcore.spec.train import TrainSpec
from tests.kdcore.conftest import FitSpec, LayOut
from tests.kdcore.train.test_out_of_memory import WITHOUT_BATCH_NORM
from tests.kdcore.train.test_resume import assert_bit_equal, teacher_of, wait_for_event
from tests.kdcore.train.test_training import events, with_train

# Each process imports torch for itself.
pytestmark = pytest.mark.timeout(600)
PATIENCE_SECONDS = 300


def on(spec: FitSpec, gpus: int, **train: object) -> FitSpec:
    return with_train(spec, gpus=gpus, batch=4, **train)


@pytest.fixture
def without_batch_norm(fit_spec: FitSpec) -> FitSpec:
    # In bf16 sums in another order are not close.
    return {**with_train(fit_spec, ema=None, precision="fp32"), "model": WITHOUT_BATCH_NORM}


def curve(run: Path) -> list[dict[str, float]]:
    values = (event["values"] for event in events(run, "metric"))
    return [each for each in values if "train/loss" in each]


@pytest.mark.slow
def test_two_ranks_have_the_loss_curve_of_one_process(
    lay_out: LayOut, fit_spec: FitSpec, without_batch_norm: FitSpec
) -> None:
    teacher = {"inputs/models/one": teacher_of(lay_out, fit_spec)}
    spec = {
        **without_batch_norm,
        "objective": [
            {"kind": "ce", "class_weights": "raw_inverse_sqrt"},
            {"kind": "kd", "temperature": 2},
            {"kind": "feature_l2", "weight": 0.1},
        ],
        "teachers": [{"name": "one", "path": "inputs/models/one"}],
        "unlabelled": {"share": 0.5, "min_confidence": 0.34},
    }
    runs = {gpus: lay_out(f"on-{gpus}", on(spec, gpus), teacher) for gpus in (1, 2)}
    for run in runs.values():
        assert run_directory(run).status == "succeeded"
    one, two = (curve(run) for run in runs.values())
    assert len(one) == 2
    for alone, together in zip(one, two, strict=True):
        assert together == pytest.approx(alone, rel=2e-3)
    assert two[0]["train/loss"] == pytest.approx(one[0]["train/loss"], rel=1e-4)
    first, second = (load_file(run / MODEL_WEIGHTS) for run in runs.values())
    for name, value in first.items():
        torch.testing.assert_close(second[name], value, rtol=1e-2, atol=2e-3)


@pytest.mark.slow
def test_stopped_and_resumed_by_as_many_is_bit_equal_and_by_others_is_refused(
    lay_out: LayOut, fit_spec: FitSpec
) -> None:
    """With batch norm and dropout: the random numbers of each rank go on where they were."""
    model = {"arch": "fpn", "encoder": "tu-mobilenetv3_small_075"}
    spec = {**on(fit_spec, 2, steps=40, evaluate_every=40), "model": model}
    undisturbed, stopped = lay_out("undisturbed", spec), lay_out("stopped", spec)
    assert run_directory(undisturbed).status == "succeeded"
    assert "batchnorm_not_synchronised" in [e["code"] for e in events(undisturbed, "warning")]
    process = subprocess.Popen([sys.executable, "-m", "kdcore", "run", str(stopped)])
    wait_for_event(stopped, process, 0)
    process.terminate()
    assert process.wait(timeout=PATIENCE_SECONDS) == EXIT_INTERRUPTED
    outcome = read_outcome(stopped)
    assert outcome is not None
    assert outcome.status == "interrupted"
    alone = run_directory(stopped, gpus=1)
    assert alone.failure is not None
    assert alone.failure.kind == FailureKind.INVALID_SPEC
    assert alone.failure.field == "train.gpus"
    assert "on 2 GPUs, and this one has 1" in alone.failure.message
    assert run_directory(stopped).status == "succeeded"
    assert_bit_equal(undisturbed, stopped)


@pytest.mark.slow
@pytest.mark.parametrize("victim", ["the run", "a rank"])
def test_a_kill_leaves_no_process(lay_out: LayOut, fit_spec: FitSpec, victim: str) -> None:
    run = lay_out("run", on(fit_spec, 2, steps=100_000))
    process = subprocess.Popen([sys.executable, "-m", "kdcore", "run", str(run)])
    try:
        wait_for_event(run, process, 0)
        ranks = psutil.Process(process.pid).children()
        assert len(ranks) == 2
        (process if victim == "the run" else ranks[1]).kill()
        assert process.wait(timeout=PATIENCE_SECONDS) == (
            -signal.SIGKILL if victim == "the run" else 1
        )
        _, alive = psutil.wait_procs(ranks, timeout=PATIENCE_SECONDS)
        assert not alive
    finally:
        process.kill()
        process.wait()
    outcome = read_outcome(run)
    if victim == "a rank":
        assert outcome is not None
        assert outcome.failure is not None
        assert outcome.failure.kind == FailureKind.TRAINER_KILLED
        assert "SIGKILL" in outcome.failure.message
    else:
        assert outcome is None


def test_a_failure_of_the_first_rank_is_that_of_the_run(lay_out: LayOut, fit_spec: FitSpec) -> None:
    told: list[Any] = []
    spec = {**on(fit_spec, 2), "preflight": {"max_ignored": 0.001}}
    spec["unlabelled"] = {"share": 0.25}
    run = lay_out("run", spec)
    outcome = run_directory(run, listener=told.append)
    assert outcome.failure is not None
    assert outcome.failure.kind == FailureKind.INVALID_SPEC
    assert outcome.failure.field == "train.gpus"
    assert "1 images without masks" in outcome.failure.message
    lines = (run / EVENTS).read_text().splitlines()
    assert [event.type for event in told] == [json.loads(line)["type"] for line in lines]


def test_a_batch_is_shared_evenly() -> None:
    with pytest.raises(ValueError, match="3 GPUs need a multiple of 3"):
        TrainSpec(batch=8, gpus=3)


def test_the_option_is_that_of_every_training_of_a_recipe() -> None:
    experiment, _ = read_recipe(Path("examples/nuclei/distil.yaml"), gpus=2)
    assert experiment.kind == "distillation"
    assert experiment.train.gpus == 2
    for teacher in experiment.teachers:
        assert teacher.train is not None
        assert teacher.train.train.gpus == 2

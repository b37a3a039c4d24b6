"""A run that is stopped, killed or disturbed ends as the undisturbed one does, bit for bit."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import pytest
import torch
from safetensors.torch import load_file

import kdcore.train.evaluate as evaluation
from kdcore.run.directory import read_outcome, run_directory
from kdcore.spec.outcome import EXIT_INTERRUPTED, FailureKind
from kdcore.spec.rundir import CHECKPOINTS, EVENTS, MODEL_WEIGHTS
from kdcore.train.checkpoint import load_checkpoint, save_checkpoint
from tests.kdcore.conftest import FitSpec, LayOut

CPU = torch.device("cpu")


def teacher_of(lay_out: LayOut, fit_spec: FitSpec) -> Path:
    run = lay_out("teacher", {**fit_spec, "train": {**fit_spec["train"], "steps": 2}})
    assert run_directory(run).status == "succeeded"
    return run / "model"


def distillation(fit_spec: FitSpec) -> FitSpec:
    """Everything that has state at once: teacher, adapters, pool, EMA, best weights."""
    return {
        **fit_spec,
        "objective": [
            {"kind": "ce", "weight": {"from": 1.0, "to": 0.5}},
            {"kind": "kd", "temperature": 2},
            {"kind": "pkd", "weight": 0.1},
        ],
        # FPN's decoder has dropout: the global random numbers must go on where they were.
        "model": {"arch": "fpn", "encoder": "tu-mobilenetv3_small_075"},
        "teachers": [{"name": "one", "path": "inputs/models/one"}],
        "unlabelled": {"share": 0.5},
    }


def all_weights(run: Path) -> dict[str, torch.Tensor]:
    state = load_checkpoint(run, device=CPU)
    assert state is not None
    return {**load_file(run / MODEL_WEIGHTS), **dict(tensors_in(state))}


def tensors_in(state: Any, path: str = "state") -> Iterator[tuple[str, torch.Tensor]]:
    """Weights, adapters, averaged weights, both moments of the optimizer, random states."""
    if isinstance(state, torch.Tensor):
        yield path, state
    elif isinstance(state, dict | list):
        entries = state.items() if isinstance(state, dict) else enumerate(state)
        for name, value in entries:
            yield from tensors_in(value, f"{path}/{name}")


def assert_bit_equal(one: Path, other: Path) -> None:
    first, second = all_weights(one), all_weights(other)
    assert first.keys() == second.keys()
    different = [name for name in first if not torch.equal(first[name], second[name])]
    assert not different


class StopAfter:
    """Asks the run to stop once this many steps are done, as SIGTERM does."""

    def __init__(self, steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
        self.left = steps
        monkeypatch.setattr("kdcore.run.watching.RunWatcher.progressed", self.count)

    def count(self, *_: object) -> None:
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.parametrize("steps", [7, 10])
def test_ten_and_resumed_ten_equal_twenty(
    lay_out: LayOut, fit_spec: FitSpec, monkeypatch: pytest.MonkeyPatch, steps: int
) -> None:
    teacher = {"inputs/models/one": teacher_of(lay_out, fit_spec)}
    spec = distillation(fit_spec)
    undisturbed, stopped = (lay_out(name, spec, teacher) for name in ("undisturbed", "stopped"))
    assert run_directory(undisturbed).status == "succeeded"
    with monkeypatch.context() as patch:
        StopAfter(steps, patch)
        assert run_directory(stopped).status == "interrupted"
    assert load_checkpoint(stopped, device=CPU)["step"] == steps  # type: ignore[index]
    torch.manual_seed(999)  # whatever the process did before must not matter
    assert run_directory(stopped).status == "succeeded"
    assert_bit_equal(undisturbed, stopped)


def test_stopped_during_an_evaluation(
    lay_out: LayOut, fit_spec: FitSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    undisturbed, stopped = lay_out("undisturbed", fit_spec), lay_out("stopped", fit_spec)
    assert run_directory(undisturbed).status == "succeeded"
    calls = 0

    def predict(*args: Any, **options: Any) -> torch.Tensor:
        nonlocal calls
        calls += 1
        if calls == 5:  # the second image of the averaged weights at step 10
            os.kill(os.getpid(), signal.SIGTERM)
        return real(*args, **options)

    real = evaluation.predict
    monkeypatch.setattr(evaluation, "predict", predict)
    assert run_directory(stopped).status == "interrupted"
    assert calls == 5
    assert run_directory(stopped).status == "succeeded"
    assert_bit_equal(undisturbed, stopped)


def test_killed_at_random_moments_and_resumed(lay_out: LayOut, fit_spec: FitSpec) -> None:
    spec = {**fit_spec, "train": {**fit_spec["train"], "steps": 30, "checkpoint_every": 3}}
    undisturbed, killed = lay_out("undisturbed", spec), lay_out("killed", spec)
    assert run_directory(undisturbed).status == "succeeded"
    rng, kills = random.Random(5), 0
    while read_outcome(killed) is None:
        process = subprocess.Popen([sys.executable, "-m", "kdcore", "run", str(killed)])
        if kills < 4:
            wait_for_event(killed, process, rng.uniform(0.0, 0.4))
            process.kill()
            kills += 1
        process.communicate()
    assert kills == 4
    assert_bit_equal(undisturbed, killed)
    for line in (killed / EVENTS).read_bytes().splitlines():
        json.loads(line)


def wait_for_event(run: Path, process: subprocess.Popen[bytes], after: float) -> None:
    """Until this process has trained a step, plus a random moment."""
    before = (run / EVENTS).stat().st_size if (run / EVENTS).exists() else 0
    while process.poll() is None:
        grown = (run / EVENTS).read_bytes()[before:] if (run / EVENTS).exists() else b""
        if b'"training"' in grown:
            time.sleep(after)
            return
        time.sleep(0.01)


def test_sigterm_ends_with_the_status_that_means_try_again(
    lay_out: LayOut, fit_spec: FitSpec
) -> None:
    run = lay_out("run", {**fit_spec, "train": {**fit_spec["train"], "steps": 5000}})
    process = subprocess.Popen([sys.executable, "-m", "kdcore", "run", str(run)])
    wait_for_event(run, process, 0)
    process.terminate()
    process.communicate(timeout=60)
    assert process.returncode == EXIT_INTERRUPTED
    outcome = read_outcome(run)
    assert outcome is not None
    assert outcome.status == "interrupted"
    assert load_checkpoint(run, device=CPU) is not None


@pytest.mark.parametrize("damage", ["truncate", "flip", "no manifest", "garbled manifest"])
def test_a_damaged_checkpoint_is_passed_over(tmp_path: Path, damage: str) -> None:
    for step in (1, 2, 3):
        save_checkpoint(tmp_path, step, {"step": step, "weights": torch.arange(1000)})
    folders = sorted((tmp_path / CHECKPOINTS).iterdir())
    assert [folder.name for folder in folders] == ["step-00000002", "step-00000003"]
    state, manifest = folders[-1] / "state.pt", folders[-1] / "manifest.json"
    content = bytearray(state.read_bytes())
    match damage:
        case "truncate":
            state.write_bytes(content[: len(content) // 2])
        case "flip":
            content[len(content) // 3] ^= 1
            state.write_bytes(content)
        case "no manifest":
            manifest.unlink()
        case "garbled manifest":
            manifest.write_text('{"files": {')
    assert load_checkpoint(tmp_path, device=CPU)["step"] == 2  # type: ignore[index]


def test_a_full_disk_fails_clearly_and_spares_the_last_checkpoint(
    lay_out: LayOut, fit_spec: FitSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = lay_out("run", fit_spec)
    real_save = torch.save

    def save(state: dict[str, object], file: BinaryIO) -> None:
        if state["step"] == 10:
            file.write(b"half")
            raise OSError(28, "No space left on device")
        real_save(state, file)

    monkeypatch.setattr(torch, "save", save)
    outcome = run_directory(run)
    assert outcome.failure is not None
    assert outcome.failure.kind == FailureKind.DISK_FULL
    assert "free disk space" in str(outcome.failure.remedy)
    assert load_checkpoint(run, device=CPU)["step"] == 5  # type: ignore[index]
    assert not list(run.rglob("*.partial"))

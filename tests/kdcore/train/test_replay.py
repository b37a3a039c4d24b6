"""Trainings with a teacher cache: the same weights, bit for bit, by fewer forward passes."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from kdcore.data.samples import CACHE_VARIABLE
from kdcore.distill import replay
from kdcore.distill.teachers import Teacher, ask, load_teachers
from kdcore.run.directory import run_directory
from kdcore.spec.outcome import FailureKind
from tests.kdcore.conftest import FitSpec, LayOut
from tests.kdcore.train.test_resume import StopAfter, assert_bit_equal
from tests.kdcore.train.test_training import events

STEPS, VIEWS = 6, 2


class Asked:
    """Counts the forward passes of teachers, and the images in them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.times = self.images = 0
        monkeypatch.setattr(replay, "ask", self.ask)
        monkeypatch.setattr("kdcore.distill.objective.ask", self.ask)

    def ask(self, teacher: Teacher, images_NCHW: Tensor) -> Any:
        self.times += 1
        self.images += len(images_NCHW)
        return ask(teacher, images_NCHW)

    def since(self) -> tuple[int, int]:
        counted = self.times, self.images
        self.times = self.images = 0
        return counted


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Asked:
    return Asked(monkeypatch)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv(CACHE_VARIABLE, str(folder))
    return folder


@pytest.fixture
def distillation(lay_out: LayOut, fit_spec: FitSpec) -> FitSpec:
    """Two teachers, the pool and no cache yet; four images a batch, 8 of each stream in all."""
    for seed in (1, 2):
        spec = {**fit_spec, "seed": seed, "train": {**fit_spec["train"], "steps": 2}}
        assert run_directory(lay_out(f"teacher-{seed}", spec)).status == "succeeded"
    return {
        **fit_spec,
        "objective": [{"kind": "ce"}, {"kind": "kd"}, {"kind": "cwd", "over": "logits"}],
        "ensemble": {"kind": "entropy"},
        "teachers": [{"name": f"t{seed}", "path": f"inputs/models/t{seed}"} for seed in (1, 2)],
        "unlabelled": {"share": 0.5},
        "train": {**fit_spec["train"], "batch": 4, "steps": STEPS, "views": VIEWS},
    }


def run(lay_out: LayOut, tmp_path: Path, name: str, spec: FitSpec, **options: Any) -> Path:
    """Run ``spec``; with ``options`` it has a cache of these options."""
    if options:
        spec = {**spec, "teacher_cache": {"quota_mb": 100, **options}}
    folder = laid_out(lay_out, tmp_path, name, spec)
    outcome = run_directory(folder)
    assert outcome.status == "succeeded", outcome.failure
    return folder


def laid_out(lay_out: LayOut, tmp_path: Path, name: str, spec: FitSpec) -> Path:
    inputs = {f"inputs/models/t{seed}": tmp_path / f"teacher-{seed}" / "model" for seed in (1, 2)}
    return lay_out(name, spec, inputs)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_off_cold_and_warm_end_in_the_same_weights(
    precision: str,
    lay_out: LayOut,
    tmp_path: Path,
    distillation: FitSpec,
    asked: Asked,
    cache: Path,
) -> None:
    train = {**distillation["train"], "precision": precision, "size": [32, 40]}
    distillation = {**distillation, "train": train}
    off = run(lay_out, tmp_path, "off", distillation)
    told = "two teachers, each step and twice the preflight, which tries two images first"
    assert asked.since()[0] == 2 * (STEPS + 2), told
    cold = run(lay_out, tmp_path, "cold", distillation, forward="batch")
    assert asked.since()[0] > 0
    warm = run(lay_out, tmp_path, "warm", distillation, forward="batch")
    assert asked.since() == (0, 0)
    assert_bit_equal(off, cold)
    assert_bit_equal(off, warm)
    assert events(off, "metric")[1]["values"] == events(warm, "metric")[1]["values"]


@pytest.mark.parametrize("options", [{"forward": "single"}, {"dtype": "fp16"}])
def test_what_the_cache_holds_never_changes_a_training(
    options: dict[str, str],
    lay_out: LayOut,
    tmp_path: Path,
    distillation: FitSpec,
    asked: Asked,
    cache: Path,
) -> None:
    cold = run(lay_out, tmp_path, "cold", distillation, **options)
    assert asked.since()[0] > 0
    warm = run(lay_out, tmp_path, "warm", distillation, **options)
    assert asked.since() == (0, 0)
    assert_bit_equal(cold, warm)
    for number, path in enumerate(sorted(cache.rglob("*.logits"))):
        if number % 3 == 0:
            path.write_bytes(path.read_bytes()[:-1] + b"\x55")
        elif number % 3 == 1:
            path.unlink()
    assert_bit_equal(cold, run(lay_out, tmp_path, "rotten", distillation, **options))
    assert asked.since()[0] > 0


def test_single_asks_for_what_is_missing_only_and_serves_every_batch_size(
    lay_out: LayOut, tmp_path: Path, distillation: FitSpec, asked: Asked, cache: Path
) -> None:
    longer = {**distillation, "train": {**distillation["train"], "steps": 14}}
    run(lay_out, tmp_path, "fills", longer, forward="single")
    entries = {path: path.stat().st_mtime_ns for path in cache.rglob("*.logits")}
    assert len(entries) == 2 * VIEWS * (8 + 6)
    asked.since()
    smaller = {**distillation, "train": {**distillation["train"], "batch": 2}}
    run(lay_out, tmp_path, "reads", {**smaller, "seed": 8}, forward="single")
    assert asked.since() == (0, 0)
    next(iter(entries)).unlink()
    run(lay_out, tmp_path, "mends", longer, forward="single")
    assert asked.since() == (2, 2), "the one that was missing, and its check"


def test_entries_belong_to_what_a_teacher_is_not_to_its_name(
    lay_out: LayOut, tmp_path: Path, distillation: FitSpec, asked: Asked, cache: Path
) -> None:
    run(lay_out, tmp_path, "fills", distillation, forward="batch")
    asked.since()
    one, two = distillation["teachers"]
    again = [{**two, "name": "other", "weight": 3.0}, one]
    run(lay_out, tmp_path, "reads", {**distillation, "teachers": again}, forward="batch")
    assert asked.since() == (0, 0)
    card = tmp_path / "teacher-2" / "model" / "model.json"
    card.write_text(card.read_text().replace('"step": 2', '"step": 3'))
    run(lay_out, tmp_path, "asks", distillation, forward="batch")
    assert asked.since()[0] == STEPS + 1, "one of the two is another, one view is checked twice"


def test_a_full_cache_is_told_once_and_changes_nothing(
    lay_out: LayOut,
    tmp_path: Path,
    distillation: FitSpec,
    cache: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = run(lay_out, tmp_path, "whole", distillation, forward="batch")
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "other"))
    monkeypatch.setattr(replay, "_MEGABYTE", 500)
    full = run(lay_out, tmp_path, "full", distillation, forward="batch")
    assert_bit_equal(whole, full)
    warnings = events(full, "warning")
    assert [event["code"] for event in warnings] == ["teacher_cache_full"]
    assert "teacher_cache.quota_mb" in warnings[0]["message"]
    kept = sum(path.stat().st_size for path in (tmp_path / "other").rglob("*.logits"))
    assert 0 < kept <= 50_000


def test_without_a_cache_folder_the_run_keeps_its_own(
    lay_out: LayOut, tmp_path: Path, distillation: FitSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(CACHE_VARIABLE, raising=False)
    folder = run(lay_out, tmp_path, "alone", distillation, forward="batch")
    assert list((folder / "cache" / "teachers").rglob("*.logits"))


def test_ten_steps_and_ten_resumed_are_twenty(
    lay_out: LayOut,
    tmp_path: Path,
    distillation: FitSpec,
    cache: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    spec = {
        **distillation,
        "train": {**distillation["train"], "steps": 20},
        "teacher_cache": {"quota_mb": 100},
    }
    whole = laid_out(lay_out, tmp_path, "whole", spec)
    assert run_directory(whole).status == "succeeded"
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "another"))
    halves = laid_out(lay_out, tmp_path, "halves", spec)
    with monkeypatch.context() as patch:
        StopAfter(10, patch)
        assert run_directory(halves).status == "interrupted"
    torch.manual_seed(999)
    assert run_directory(halves).status == "succeeded"
    assert_bit_equal(whole, halves)


class _Moody(nn.Module):
    """Adds something to the answers of a network: another number each time, or the batch's mean."""

    def __init__(self, inner: nn.Module, mood: str) -> None:
        super().__init__()
        self.inner, self.mood, self.calls = inner, mood, 0
        self.encoder = inner.encoder

    def forward(self, images_NCHW: Tensor) -> Any:
        self.calls += 1
        answer_NCHW = self.inner(images_NCHW)
        if self.mood == "random":
            return answer_NCHW + 0.01 * self.calls
        if self.mood == "company":
            return answer_NCHW + answer_NCHW.mean()
        return answer_NCHW + 0.01 * torch.arange(len(answer_NCHW)).view(-1, 1, 1, 1)


@pytest.mark.parametrize(
    ("mood", "forward", "refused"),
    [
        ("random", "batch", True),
        ("company", "batch", True),
        ("place", "batch", True),
        ("random", "single", True),
        ("company", "single", False),
        ("place", "single", False),
    ],
)
def test_a_teacher_that_gives_one_view_two_answers_is_refused(
    mood: str,
    forward: str,
    refused: bool,
    lay_out: LayOut,
    tmp_path: Path,
    distillation: FitSpec,
    cache: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def moody(*args: Any, **kwargs: Any) -> list[Teacher]:
        teachers = load_teachers(*args, **kwargs)
        teachers[1].model.net = _Moody(teachers[1].model.net, mood).eval()
        return teachers

    monkeypatch.setattr("kdcore.run.fit.load_teachers", moody)
    spec = {**distillation, "teacher_cache": {"forward": forward}}
    outcome = run_directory(laid_out(lay_out, tmp_path, "moody", spec))
    if not refused:
        assert outcome.status == "succeeded"
        return
    assert outcome.failure is not None
    assert outcome.failure.kind == FailureKind.INVALID_SPEC
    assert outcome.failure.field == "teacher_cache.forward"
    assert "t2" in outcome.failure.message

"""`python -m benchmarks.kd` on tiny networks: all arms do equal work, and every path of it runs."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.kd import main
from benchmarks.speed import scene as scenes
from benchmarks.speed.arms import Arm, build_arm, ours
from benchmarks.speed.device import CudaMeter, PeakMemory
from benchmarks.speed.gate import check
from benchmarks.speed.measure import Form, measure
from benchmarks.speed.order import order_of_samples
from benchmarks.speed.plan import parse, planned
from benchmarks.speed.scene import Scene, make_scene
from benchmarks.speed.workload import ARMS, ArmName, Pair, Workload
from kdcore.errors import SpecError
from kdcore.spec.rundir import MODEL_INPUTS

CPU = torch.device("cpu")


def tiny(pair: Pair = "sf", **more: Any) -> Workload:
    return Workload(pair, size=64, classes=5, models="tiny", **more)


def nothing() -> None: ...


@contextmanager
def loaded(name: ArmName, scene: Scene) -> Iterator[Arm]:
    arm = build_arm(name, scene, CPU)
    arm.load_models()
    yield arm
    arm.close()


@pytest.mark.parametrize("pair", ["sf", "cnn", "ens"])
def test_ours_computes_what_the_plain_loop_computes(pair: Pair, tmp_path: Path) -> None:
    gate = check(make_scene(tmp_path, tiny(pair).for_gate()), CPU, 1)
    assert gate.passed, gate


def test_the_gate_sees_another_temperature(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    terms = [{"kind": "ce"}, {"kind": "kd", "temperature": 2.05}]
    monkeypatch.setattr(ours, "objective_terms", lambda _: terms)
    gate = check(make_scene(tmp_path, tiny().for_gate()), CPU, 1)
    assert not gate.passed


def test_every_arm_has_the_losses_of_the_plain_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scenes, "_IGNORED_SHARE", 0.0)  # torchdistill's KL has no mask
    scene = make_scene(tmp_path, tiny("cnn", dropout=False))
    losses = {}
    for name in ARMS:
        with loaded(name, scene) as arm:
            losses[name] = arm.train(4, nothing)
    for name, found in losses.items():
        assert found == pytest.approx(losses["A"], rel=0.01), name
    assert losses["A"][0] != pytest.approx(losses["A"][3], rel=1e-3), "they would be equal anyhow"


def test_a_held_training_of_ours_goes_on(tmp_path: Path) -> None:
    scene = make_scene(tmp_path, tiny())
    steps: list[int] = []
    with loaded("B", scene) as arm:
        held = [*arm.train(1, lambda: steps.append(1)), *arm.train(2, lambda: steps.append(1))]
    assert len(steps) == 3
    shutil.rmtree(scene.root / "runs")
    with loaded("B", scene) as arm:
        assert arm.train(3, nothing) == held


def test_what_goes_wrong_in_ours_is_raised(tmp_path: Path) -> None:
    scene = make_scene(tmp_path, tiny())
    with loaded("B", scene) as arm:
        shutil.rmtree(scene.root / MODEL_INPUTS / "segformer")
        with pytest.raises(SpecError, match="holds no model"):
            arm.train(1, nothing)


def test_other_loaders_visit_samples_in_our_order(tmp_path: Path) -> None:
    scene = make_scene(tmp_path, tiny(batch=3))
    samples, order = scene.samples(), order_of_samples(scene, 1, 4)
    shown = torch.cat([batch.images_NCHW for batch in scene.batches(5)])[3:]
    assert len(order) == len(shown) == 12
    for index, image in zip(order, shown, strict=True):
        assert torch.equal(samples[index][0], image)


def test_an_arm_that_fails_does_not_cost_the_others(tmp_path: Path) -> None:
    scene = make_scene(tmp_path, tiny())
    case = measure(scene, ("A",), Form(1, 1, cycles=1), device=torch.device("meta"), threads=1)
    assert case.arms == {}
    assert case.failed["A"]


def test_marks_of_a_gpu_are_events_in_milliseconds(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([10.0, 30.0, 35.0])

    class Event:
        def __init__(self, *, enable_timing: bool) -> None:
            assert enable_timing

        def record(self) -> None:
            self.at = next(clock)

        def elapsed_time(self, later: "Event") -> float:
            return later.at - self.at

    waited: list[bool] = []
    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: waited.append(True))
    meter = CudaMeter()
    for _ in range(3):
        meter.mark()
    assert meter.seconds() == pytest.approx([0.02, 0.005])
    assert waited
    assert meter.seconds() == []


def test_peak_memory_remembers_what_is_freed() -> None:
    memory = PeakMemory(CPU)
    block = torch.ones(2**24)
    held = block.numel() * block.element_size()
    del block
    assert 0.9 * held < memory.bytes() < 2 * held


def test_on_a_gpu_the_goals_come_first() -> None:
    first, second, *others = planned(parse(["--device", "cuda", "--all"]))
    for item, pair in ((first, "sf"), (second, "cnn")):
        assert (item.workload, item.arms) == (Workload(pair, batch=8), ARMS)
        assert item.checked
    assert {item.workload.batch for item in others} == {8, 32, 64}
    assert {item.workload.classes for item in others} == {19, 150}
    assert {item.workload.source for item in others} == {"memory", "disk"}


TINY = ["--models", "tiny", "--size", "64", "--classes", "5", "--threads", "1",
        "--warm-up", "2", "--steps", "1", "--cycles", "1", "--precision", "fp32"]  # fmt: skip


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_everything_in_one_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--all", *TINY, "--out", str(tmp_path)]) == 0
    (found,) = tmp_path.glob("*.json")
    result = json.loads(found.read_text())
    assert all(gate["passed"] for gate in result["gates"])
    assert [gate["workload"]["pair"] for gate in result["gates"]] == ["sf", "cnn", "ens"]
    measured = [
        (case["workload"]["pair"], case["workload"]["source"], list(case["arms"]))
        for case in result["cases"]
    ]
    assert measured == [
        ("sf", "memory", list(ARMS)),
        ("cnn", "memory", list(ARMS)),
        ("sf", "disk", ["A2", "B"]),
        ("ens", "memory", ["A", "A2", "B"]),
    ]
    for case in result["cases"]:
        for arm in case["arms"].values():
            assert arm["images_per_second"] > 0
            assert [len(block) for block in arm["blocks"]] == [1, 1]
    assert all(goal["limit"] is None for goal in result["goals"]), "tiny networks meet no goal"
    text = found.with_suffix(".md").read_text()
    assert "| goal | | ours | peer | ratio | limit | pass |" in text
    assert text in capsys.readouterr().out
    assert str(tmp_path) not in text + found.read_text()


def test_what_there_is_no_time_for_is_listed(tmp_path: Path) -> None:
    assert main([*TINY, "--pair", "sf", "cnn", "--minutes", "0", "--out", str(tmp_path)]) == 0
    (found,) = tmp_path.glob("*.json")
    result = json.loads(found.read_text())
    assert result["cases"] == []
    assert [entry.split(",")[0] for entry in result["left_out"]] == ["sf", "cnn"]

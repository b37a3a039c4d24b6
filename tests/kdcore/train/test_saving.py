"""A checkpoint holds what was there when it was asked for, however long its writing takes."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from kdcore.errors import DiskFull
from kdcore.train import saving
from kdcore.train.checkpoint import load_checkpoint, save_checkpoint
from kdcore.train.saving import CheckpointWriter

CPU = torch.device("cpu")


class Gate:
    """Holds every write until it is opened, and counts those that are under way at one time."""

    def __init__(self) -> None:
        self.opened, self.entered = threading.Event(), threading.Event()
        self.inside = self.most = 0

    def save(self, run: Path, step: int, state: dict[str, Any]) -> str:
        self.inside += 1
        self.most = max(self.most, self.inside)
        self.entered.set()
        assert self.opened.wait(timeout=30)
        path = save_checkpoint(run, step, state)
        self.inside -= 1
        return path


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    gate = Gate()
    monkeypatch.setattr(saving, "save_checkpoint", gate.save)
    yield gate
    gate.opened.set()


def test_what_changes_meanwhile_is_not_in_it(tmp_path: Path, gate: Gate) -> None:
    told: list[tuple[int, str]] = []
    weights, best = torch.zeros(3), torch.full((2,), 7.0)
    moments = [{"step": torch.tensor(1.0)}, {"step": torch.tensor(1.0)}]
    with CheckpointWriter(tmp_path, lambda *event: told.append(event)) as writer:
        writer.write(1, {"weights": weights, "moments": moments, "n": 1}, {"best": best})
        assert gate.entered.wait(timeout=30)
        weights.add_(1)
        moments[0]["step"].add_(1)
        writer.poll()
        assert told == [], "it is not there yet"
        gate.opened.set()
        writer.join()
        assert told == [(1, "checkpoints/step-00000001")]
        first = load_checkpoint(tmp_path, device=CPU)
        writer.write(2, {"weights": weights, "moments": moments, "n": 2}, {"best": best})
    assert [step for step, _ in told] == [1, 2], "leaving waits for the last"
    second = load_checkpoint(tmp_path, device=CPU)
    assert first is not None
    assert second is not None
    for state, n in ((first, 1), (second, 2)):
        assert state["n"] == n
        assert state["weights"].tolist() == [n - 1.0] * 3
        assert [each["step"].item() for each in state["moments"]] == [n, 1]
        assert state["best"].tolist() == [7.0, 7.0]


def test_one_at_a_time(tmp_path: Path, gate: Gate) -> None:
    told: list[int] = []
    with CheckpointWriter(tmp_path, lambda step, _: told.append(step)) as writer:
        gate.opened.set()
        for step in range(5):
            writer.write(step, {"weights": torch.full((1000,), float(step))}, {})
    assert told == [0, 1, 2, 3, 4]
    assert gate.most == 1


def test_a_full_disk_reaches_the_loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> str:
        raise DiskFull("no space left")

    told: list[int] = []

    def save(fault: Exception | None) -> None:
        with CheckpointWriter(tmp_path, lambda step, _: told.append(step)) as writer:
            writer.write(1, {}, {})
            if fault is not None:
                raise fault

    monkeypatch.setattr(saving, "save_checkpoint", full)
    with pytest.raises(DiskFull):
        save(None)
    with pytest.raises(KeyError, match="why the run ends"):
        save(KeyError("why the run ends"))
    assert told == []

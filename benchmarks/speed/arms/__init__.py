"""The ways to train that are compared. Each is told how many steps to go, and says when one is done."""

from collections.abc import Callable
from typing import Protocol

import torch

from benchmarks.speed.scene import Scene
from benchmarks.speed.workload import ArmName


class Arm(Protocol):
    """``settings``: what it resolved by itself, for the report."""

    @property
    def settings(self) -> dict[str, str]: ...

    def load_models(self) -> None:
        """After the data, so that memory can be looked at in between."""
        ...

    def train(self, steps: int, done: Callable[[], None]) -> list[float]:
        """Train ``steps`` steps more, call ``done`` after each and return their losses."""
        ...

    def close(self) -> None:
        """End what still runs."""
        ...


def build_arm(name: ArmName, scene: Scene, device: torch.device) -> Arm:
    """With its data, without its models. Raises: ImportError, where torchdistill is missing."""
    # An arm loads what it needs: nobody else waits for torchdistill, or is changed by it.
    if name == "TD":
        from benchmarks.speed.arms.torchdistill import Torchdistill

        return Torchdistill(scene, device)
    if name in ("A", "A2"):
        from benchmarks.speed.arms.plain import Plain

        return Plain(scene, device, competent=name == "A2")
    from benchmarks.speed.arms.ours import Ours

    return Ours(scene, device, cached=name == "Bcache")

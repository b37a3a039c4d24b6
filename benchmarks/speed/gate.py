"""Whether ours computes what the plain loop computes; without that no figure counts."""

from dataclasses import dataclass

import torch
from torch import Tensor

from benchmarks.speed.arms.ours import Ours
from benchmarks.speed.arms.plain import Plain
from benchmarks.speed.arms.plain_data import normalised
from benchmarks.speed.device import allow_tf32
from benchmarks.speed.scene import Scene

LOSS_LIMIT, GRADIENT_LIMIT, CURVE_LIMIT = 1e-5, 1e-4, 0.01
CURVE_STEPS = 20


@dataclass(frozen=True)
class Gate:
    """Relative differences of B from A: of fp32 values on one batch (each term and the total, the
    largest), of its gradient (‖B - A‖ / ‖A‖ over all parameters), and of 20 steps' losses, the
    largest, with B at its own precision.
    """

    loss: float
    gradient: float
    curve: float
    settings: dict[str, str]

    @property
    def passed(self) -> bool:
        return (
            self.loss <= LOSS_LIMIT
            and self.gradient <= GRADIENT_LIMIT
            and self.curve <= CURVE_LIMIT
        )


def check(scene: Scene, device: torch.device, threads: int) -> Gate:
    """``scene``: of a workload `for_gate`."""
    torch.set_num_threads(threads)
    plain, ours = Plain(scene, device, competent=False), Ours(scene, device)
    plain.load_models()
    ours.load_models()
    allow_tf32(device, allowed=False)
    loss, gradient = _one_batch(plain, ours, scene)
    # Both have moved their running statistics: the curves begin anew.
    plain.load_models()
    ours.load_models()
    allow_tf32(device, allowed=False)
    expected = plain.train(CURVE_STEPS, _nothing)
    found = ours.train(CURVE_STEPS, _nothing)
    curve = max(_relative(b, a) for a, b in zip(expected, found, strict=True))
    return Gate(loss, gradient, curve, ours.settings)


def _one_batch(plain: Plain, ours: Ours, scene: Scene) -> tuple[float, float]:
    batch = next(scene.batches(1))
    expected = plain.loss(*plain.on_device(*normalised(batch)))
    expected.total.backward()  # type: ignore[no-untyped-call]
    found = ours.loss(batch)
    found.loss.backward()  # type: ignore[no-untyped-call]
    pairs = (
        (expected.total, found.loss),
        (expected.ce, found.terms["ce"]),
        (expected.kd, found.terms["kd"]),
    )
    loss = max(_relative(b.item(), a.item()) for a, b in pairs)
    return loss, _distance(plain.gradients(), ours.gradients())


def _distance(expected: dict[str, Tensor], found: dict[str, Tensor]) -> float:
    """Raises: ValueError, when the two have gradients of different parameters."""
    if expected.keys() != found.keys():
        raise ValueError(f"gradients of one alone: {sorted(expected.keys() ^ found.keys())[:5]}")
    squared = sum(
        float((found[name] - one).double().square().sum()) for name, one in expected.items()
    )
    norm = sum(float(one.double().square().sum()) for one in expected.values())
    return float((squared / norm) ** 0.5)


def _relative(found: float, expected: float) -> float:
    return abs(found - expected) / abs(expected)


def _nothing() -> None:
    """Nobody counts these steps."""

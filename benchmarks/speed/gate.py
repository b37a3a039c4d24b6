"""Whether ours computes what the plain loop computes; without that no figure counts."""

from dataclasses import dataclass, replace

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
    allow_tf32(device, allowed=False)
    plain = Plain(scene, device, competent=False)
    loss, gradient = _first_step(plain, scene)
    # It has moved its running statistics: the curve begins anew.
    plain.load_models()
    expected = plain.train(CURVE_STEPS, _nothing)
    ours = Ours(scene, device)
    found = ours.train(CURVE_STEPS, _nothing)
    ours.close()
    curve = max(_relative(b, a) for a, b in zip(expected, found, strict=True))
    return Gate(loss, gradient, curve, ours.settings)


def _first_step(plain: Plain, scene: Scene) -> tuple[float, float]:
    plain.load_models()
    expected = plain.loss(*plain.on_device(*normalised(next(scene.batches(1)))))
    expected.total.backward()  # type: ignore[no-untyped-call]
    exact = replace(scene, workload=replace(scene.workload, precision="fp32"))
    ours = Ours(exact, plain.device)
    ours.train(1, _nothing)
    pairs = (
        (expected.total, ours.total.loss),
        (expected.ce, ours.total.terms["ce"]),
        (expected.kd, ours.total.terms["kd"]),
    )
    loss = max(_relative(b.item(), a.item()) for a, b in pairs)
    gradient = _distance(plain.gradients(), ours.gradients())
    ours.close()
    return loss, gradient


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

"""Whether ours computes what the plain loop computes; without that no figure counts."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from benchmarks.speed.arms.ours import Ours
from benchmarks.speed.arms.plain import Plain
from benchmarks.speed.arms.plain_data import normalised
from benchmarks.speed.arms.plain_loss import Terms
from benchmarks.speed.device import allow_tf32
from benchmarks.speed.scene import Scene
from benchmarks.speed.workload import MemoryFormat

LOSS_LIMIT, GRADIENT_LIMIT, CURVE_LIMIT = 1e-5, 1e-4, 0.01
CURVE_STEPS = 20


@dataclass(frozen=True)
class Gate:
    """Relative differences of B from A: of fp32 values on one batch (each term and the total, the
    largest), of its gradient (‖B - A‖ / ‖A‖ over all parameters) with the memory format of A, and of
    20 steps' losses, the largest, with B as it is timed.

    Beside them two gradients that show what fp32 is worth there: of B in its own memory format,
    which sums in another order, from A; and of A from A with networks in float64.
    """

    loss: float
    gradient: float
    curve: float
    gradient_own_format: float
    rounding: float
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
    loss, gradient, own_format, rounding = _first_step(plain, scene)
    # It has moved its running statistics: the curve begins anew.
    plain.load_models()
    expected = plain.train(CURVE_STEPS, _nothing)
    ours = Ours(scene, device)
    found = ours.train(CURVE_STEPS, _nothing)
    ours.close()
    curve = max(_relative(b, a) for a, b in zip(expected, found, strict=True))
    return Gate(loss, gradient, curve, own_format, rounding, ours.settings)


def _first_step(plain: Plain, scene: Scene) -> tuple[float, float, float, float]:
    images_NCHW, labels_NHW = plain.on_device(*normalised(next(scene.batches(1))))
    plain.load_models()
    expected = plain.loss(images_NCHW, labels_NHW)
    expected.total.backward()  # type: ignore[no-untyped-call]
    gradients = plain.gradients()
    loss, gradient = _of_ours(scene, expected, gradients, plain.device, "contiguous")
    _, own_format = _of_ours(scene, expected, gradients, plain.device, "auto")
    plain.load_models()
    plain.teacher.double()
    plain.student.double()
    plain.loss(images_NCHW.double(), labels_NHW).total.backward()  # type: ignore[no-untyped-call]
    return loss, gradient, own_format, _distance(plain.gradients(), gradients)


def _of_ours(
    scene: Scene,
    expected: Terms,
    gradients: dict[str, Tensor],
    device: torch.device,
    memory_format: MemoryFormat,
) -> tuple[float, float]:
    """Differences of the values and of the gradient, in fp32."""
    exact = replace(scene.workload, precision="fp32", memory_format=memory_format)
    ours = Ours(replace(scene, workload=exact), device)
    ours.train(1, _nothing)
    pairs = (
        (expected.total, ours.total.loss),
        (expected.ce, ours.total.terms["ce"]),
        (expected.kd, ours.total.terms["kd"]),
    )
    loss = max(_relative(b.item(), a.item()) for a, b in pairs)
    gradient = _distance(gradients, ours.gradients())
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

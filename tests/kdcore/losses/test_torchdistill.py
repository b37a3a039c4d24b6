"""Values and gradients equal those of torchdistill where that is right; where it is not, we differ."""

import warnings
from typing import Any

import pytest
import torch
from torch import Tensor

from kdcore.losses import build

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from torchdistill.losses import mid_level

LABELS = torch.randint(0, 5, (3, 6, 7), generator=torch.Generator().manual_seed(4))


def drawn(seed: int) -> Tensor:
    return 3 * torch.randn(3, 5, 6, 7, generator=torch.Generator().manual_seed(seed)).double()


def rows(x: Tensor) -> Tensor:
    return x.movedim(1, -1).reshape(-1, x.shape[1])


def peer(name: str, **arguments: Any) -> Any:
    paths = ("net", "output", "net", "output")
    return getattr(mid_level, name)(*paths, **arguments)


def asked(loss: Any, student: Tensor, teacher: Tensor) -> Tensor:
    value: Tensor = loss({"net": {"output": student}}, {"net": {"output": teacher}})
    return value


@pytest.mark.parametrize(
    ("term", "loss", "factor"),
    [
        # Without targets it leaves τ² out.
        ({"kind": "kd", "temperature": 3}, peer("KDLoss", temperature=3, alpha=0), 9),
        ({"kind": "logit_std"}, peer("LogitStdKDLoss", temperature=2, alpha=0), 4),
        ({"kind": "dist", "temperature": 2}, peer("DISTLoss", tau=2), 1),
        ({"kind": "dist", "beta": 2, "gamma": 3}, peer("DISTLoss", beta=2, gamma=3), 1),
    ],
    ids=["kd", "logit_std", "dist", "dist-weights"],
)
def test_logit_losses(term: dict[str, Any], loss: Any, factor: float) -> None:
    student, teacher = drawn(0).requires_grad_(), drawn(1)
    ours = build(term)(student, teacher, LABELS)
    theirs = factor * asked(loss, rows(student), rows(teacher))
    assert ours.item() == pytest.approx(theirs.item(), abs=1e-6)
    ours_grad, theirs_grad = (torch.autograd.grad(x, student)[0] for x in (ours, theirs))
    assert torch.allclose(ours_grad, theirs_grad, atol=1e-8)


def test_attention_transfer() -> None:
    pair = {"map": {"student": {"path": "net", "io": "output"},
                    "teacher": {"path": "net", "io": "output"}, "weight": 1}}  # fmt: skip
    student, teacher = drawn(0).requires_grad_(), drawn(1)
    ours = build({"kind": "at"})(student, teacher, LABELS)
    theirs = mid_level.ATLoss(pair, mode="code").compute_at_loss(student, teacher)
    assert ours.item() == pytest.approx(theirs.item(), abs=1e-12)
    ours_grad, theirs_grad = (torch.autograd.grad(x, student)[0] for x in (ours, theirs))
    assert torch.allclose(ours_grad, theirs_grad, atol=1e-12)


def test_fed_nchw_its_dist_is_another_number() -> None:
    theirs = asked(peer("DISTLoss"), drawn(0), drawn(1)).item()
    assert abs(theirs - build({"kind": "dist"})(drawn(0), drawn(1), LABELS).item()) > 1e-3

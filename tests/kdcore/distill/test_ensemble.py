"""Several teachers as one: whose word counts, and where."""

import pytest
import torch
from torch import Tensor

from kdcore.distill import ensemble, teacher_weights

LABELS = torch.tensor([[[0, 1], [2, 255]]])


def sure_of(labels: Tensor, logit: float) -> Tensor:
    """Logits (1, 3, 2, 2) that say ``labels`` (255: class 0) with this much confidence."""
    known = labels.masked_fill(labels == 255, 0)
    return logit * torch.nn.functional.one_hot(known, 3).movedim(-1, 1).double()


RIGHT, WRONG = sure_of(LABELS, 4), sure_of((LABELS + 1) % 3, 4)


def test_one_teacher_is_itself() -> None:
    assert torch.equal(ensemble("confidence", [RIGHT]), RIGHT)


@pytest.mark.parametrize("kind", ["logit_mean", "prob_mean"])
def test_fixed_weights_are_normalised(kind: str) -> None:
    assert torch.allclose(
        ensemble(kind, [RIGHT, WRONG], LABELS, [3.0, 1.0], 255),
        ensemble(kind, [RIGHT, WRONG], weights=[0.75, 0.25]),
    )
    alone = ensemble(kind, [RIGHT, WRONG], weights=[1.0, 0.0])
    assert torch.allclose(alone.softmax(1), RIGHT.softmax(1))


@pytest.mark.parametrize("kind", ["confidence", "entropy"])
@pytest.mark.parametrize("count", [2, 3])
def test_weights_per_pixel_add_up_to_one(kind: str, count: int) -> None:
    logits = [torch.randn(1, 3, 2, 2) for _ in range(count)]
    weights = teacher_weights(kind, logits, LABELS, range(1, count + 1))
    assert weights.shape == (count, 1, 1, 2, 2)
    assert torch.allclose(weights.sum(0), torch.ones(1, 1, 2, 2))
    assert (weights >= 0).all()


def test_confidence_trusts_who_is_right_and_nobody_more_where_ignored() -> None:
    weights = teacher_weights("confidence", [RIGHT, WRONG], LABELS)[:, 0, 0]
    assert (weights[0, 0] > 0.9).all()
    assert weights[0, 1, 0] > 0.9
    assert weights[:, 1, 1].tolist() == [0.5, 0.5]
    with pytest.raises(ValueError, match="labels"):
        teacher_weights("confidence", [RIGHT, WRONG])


def test_confidence_with_fixed_weights_multiplies_them() -> None:
    weights = teacher_weights("confidence", [RIGHT, WRONG], LABELS, [1.0, 3.0])[:, 0, 0]
    assert weights[:, 1, 1].tolist() == pytest.approx([0.25, 0.75])


def test_entropy_trusts_the_surer_teacher_also_at_probability_zero() -> None:
    unsure = torch.zeros(1, 3, 2, 2)
    one_hot = sure_of(LABELS, 1e4).float()
    weights = teacher_weights("entropy", [one_hot, unsure])
    assert weights[:, 0, 0, 0, 0].tolist() == [1, 0]
    assert (teacher_weights("entropy", [one_hot, one_hot]) == 0.5).all()
    assert torch.isfinite(ensemble("entropy", [one_hot, unsure])).all()


def test_class_iou_asks_for_each_class_who_knows_it() -> None:
    first, second = torch.randn(1, 3, 2, 2).double(), torch.randn(1, 3, 2, 2).double()
    iou = [[1.0, 0.3, 0.0], [0.0, 0.3, 0.0]]
    p, q = first.softmax(1), second.softmax(1)
    expected = torch.stack([p[:, 0], (p[:, 1] + q[:, 1]) / 2, (p[:, 2] + q[:, 2]) / 2], dim=1)
    combined = ensemble("class_iou", [first, second], weights=iou).softmax(1)
    assert torch.allclose(combined, expected / expected.sum(1, keepdim=True))
    with pytest.raises(ValueError, match="IoU"):
        ensemble("class_iou", [first, second])
    with pytest.raises(ValueError, match="weights"):
        ensemble("class_iou", [first, second], weights=[1.0, 2.0])


@pytest.mark.parametrize("kind", ["logit_mean", "prob_mean", "confidence", "entropy", "class_iou"])
def test_different_strides_meet_and_nothing_has_a_gradient(kind: str) -> None:
    coarse, fine = torch.randn(1, 3, 2, 2), torch.randn(1, 3, 8, 8, requires_grad=True)
    labels = LABELS.repeat_interleave(4, 1).repeat_interleave(4, 2)
    weights = [[1.0, 1.0, 1.0]] * 2 if kind == "class_iou" else None
    combined = ensemble(kind, [coarse, fine], labels, weights, 255, temperature=2.0)
    assert combined.shape == (1, 3, 2, 2)
    assert not combined.requires_grad


@pytest.mark.parametrize("kind", ["prob_mean", "confidence", "entropy", "class_iou"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_finite_at_a_hundredfold(kind: str, dtype: torch.dtype) -> None:
    logits = [(100 * torch.randn(1, 3, 2, 2)).to(dtype) for _ in range(3)]
    weights = [[0.0, 1.0, 1.0]] * 3 if kind == "class_iou" else None
    combined = ensemble(kind, logits, LABELS, weights)
    assert torch.isfinite(combined.log_softmax(1).exp()).all()
    assert combined.dtype == torch.float32


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown"):
        ensemble("median", [RIGHT, WRONG])

"""The gate before the pool: which pixels it leaves, and which terms it is for."""

import copy
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from kdcore.data.batches import Batch
from kdcore.distill.gate import gated
from kdcore.distill.objective import Objective
from kdcore.distill.teachers import Teacher
from kdcore.losses import build
from kdcore.models.network import SegmentationModel
from tests.kdcore.distill.test_objective import KINDS, TERM, batch, objective

NEARLY_ONE = 1 - 1e-6
NEEDS_LABELS = [kind for kind in KINDS if TERM.validate_python({"kind": kind}).needs_labels]
# What MGD masks is drawn anew for every batch.
OF_PICTURES = [kind for kind in KINDS if kind not in (*NEEDS_LABELS, "mgd")]


def hand_made() -> tuple[Batch, Tensor]:
    """A labelled image, and one of the pool of 2x2 pixels: one padded, three of p = .5, .7, .9."""
    labels = torch.tensor([[[0, 1], [2, 255]], [[0, 0], [0, 255]]])
    confidences = torch.tensor([[[0.5, 0.7], [0.9, 0.99]]] * 2)
    rest = (1 - confidences) / 2
    images = torch.zeros(2, 3, 2, 2, dtype=torch.uint8)
    return Batch(images, labels, 1), torch.stack([rest, confidences, rest], dim=1).log()


@pytest.mark.parametrize(
    ("least", "left", "share"),
    [
        (0.0, [[0, 0], [0, 255]], 1),
        (0.6, [[255, 0], [0, 255]], 2 / 3),
        (0.8, [[255, 255], [0, 255]], 1 / 3),
        (1.0, [[255, 255], [255, 255]], 0),
    ],
)
def test_unsure_pixels_of_the_pool_are_ignored(
    least: float, left: list[list[int]], share: float
) -> None:
    before, logits = hand_made()
    after, kept = gated(before, logits, least)
    assert after.labels_NHW[1].tolist() == left
    assert kept.item() == pytest.approx(share)
    assert torch.equal(after.labels_NHW[0], before.labels_NHW[0])
    assert before.labels_NHW[1].tolist() == [[0, 0], [0, 255]]
    assert after.labelled == before.labelled


def test_a_pool_of_padding_alone_keeps_nothing() -> None:
    before, logits = hand_made()
    padded = replace(before, labels_NHW=torch.full_like(before.labels_NHW, 255))
    assert gated(padded, logits, 0.5)[1].item() == 0


def test_coarse_logits_are_judged_at_the_size_of_the_labels() -> None:
    before, logits = hand_made()
    large = before.labels_NHW.repeat_interleave(4, 1).repeat_interleave(4, 2)
    after, _ = gated(replace(before, labels_NHW=large), logits, 0.6)
    corners = after.labels_NHW[1][[0, 0, -1, -1], [0, -1, 0, -1]]
    assert corners.tolist() == [255, 0, 0, 255]


@pytest.mark.parametrize("kind", OF_PICTURES)
def test_terms_are_exactly_those_of_the_labelled_images(kind: str) -> None:
    """On equal logits there is no rounding of other kernels for another batch size."""
    generator = torch.Generator().manual_seed(0)
    student, teacher = torch.randn(2, 3, 3, 8, 8, generator=generator)
    labels = torch.zeros(3, 8, 8, dtype=torch.int64)
    labels[:, :2] = 255
    whole = Batch(torch.zeros(3, 3, 8, 8, dtype=torch.uint8), labels, 2)
    after, kept = gated(whole, teacher, NEARLY_ONE)
    assert kept == 0
    term = build({"kind": kind})
    assert torch.equal(
        term(student, teacher, after.labels_NHW), term(student[:2], teacher[:2], labels[:2])
    )


def gated_objective(
    student: SegmentationModel, teachers: list[Teacher], term: str, least: float | None, **more: str
) -> Objective:
    """With the weights that a term brings along set the same for every gate."""
    torch.manual_seed(0)
    return objective(student, teachers, {"kind": term}, min_confidence=least, **more)


@pytest.mark.parametrize("kind", KINDS)
def test_a_gate_at_zero_is_no_gate(
    kind: str, student: SegmentationModel, teachers: list[Teacher]
) -> None:
    values = []
    for least in (None, 0.0):
        whole = gated_objective(student, teachers, kind, least)
        torch.manual_seed(1)
        values.append(whole(student, batch(), 0))
    assert torch.equal(values[0].loss, values[1].loss)
    assert values[1].terms.pop("pool_kept") == 1
    assert values[0].terms.keys() == values[1].terms.keys()


@pytest.mark.parametrize("kind", OF_PICTURES)
def test_an_unsure_teacher_leaves_the_labelled_images(
    kind: str, student: SegmentationModel, teachers: list[Teacher]
) -> None:
    full = batch()
    only = Batch(full.images_NCHW[:2], full.labels_NHW[:2], 2)
    whole = gated_objective(student, teachers, kind, NEARLY_ONE)
    total = whole(student, full, 0)
    alone = whole(student, only, 0)
    assert total.terms["pool_kept"] == 0
    assert "pool_kept" not in alone.terms
    assert total.loss.item() == pytest.approx(alone.loss.item(), rel=1e-5)


@pytest.mark.parametrize("kind", NEEDS_LABELS)
def test_what_needs_labels_sees_the_pool_through_no_gate(
    kind: str, student: SegmentationModel, teachers: list[Teacher]
) -> None:
    full = batch()
    other_pool = replace(full, labels_NHW=full.labels_NHW.clone())
    other_pool.labels_NHW[2:] = 1
    values = [
        gated_objective(student, teachers, kind, 0.4)(student, each, 0).loss
        for each in (full, other_pool)
    ]
    assert torch.equal(*values)


def test_the_gate_asks_the_teachers_together(
    student: SegmentationModel, teachers: list[Teacher]
) -> None:
    """Each sure of another class: their mean is not, whatever the term's own temperature is."""
    shares = []
    for least in (0.3, 0.6):
        one, two = (_sure(teacher, index) for index, teacher in enumerate(teachers))
        for together in ([one], [one, two]):
            whole = gated_objective(student, together, "kd", least, kind="prob_mean")
            shares.append(whole(student, batch(), 0).terms["pool_kept"].item())
    assert shares == [1, 1, 1, 0]


def _sure(teacher: Teacher, index: int) -> Teacher:
    """The same network, which answers class ``index`` everywhere."""

    def always(_: nn.Module, __: object, logits_NCHW: Tensor) -> Tensor:
        answer_NCHW = torch.zeros_like(logits_NCHW)
        answer_NCHW[:, index] = 20
        return answer_NCHW

    model = copy.deepcopy(teacher.model)
    model.register_forward_hook(always)
    return replace(teacher, model=model)

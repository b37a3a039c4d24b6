"""A teacher of other classes: its probabilities, and what the student is compared on."""

import copy
import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from kdcore.data.batches import Batch
from kdcore.distill.class_map import UNKNOWN, Group, grouped, with_classes
from kdcore.distill.objective import Objective
from kdcore.distill.teachers import Teacher
from kdcore.models.network import SegmentationModel, build_model
from kdcore.models.store import ModelCard
from kdcore.spec.dataset import ClassEntry
from kdcore.spec.model import ModelSpec
from kdcore.spec.objective import Ensemble
from tests.kdcore.distill.conftest import WIDER
from tests.kdcore.distill.test_objective import KINDS, TERM
from tests.shapes import STUDENT

TEACHING = [kind for kind in KINDS if TERM.validate_python({"kind": kind}).needs_teacher]
PROBABILITIES = (0.5, 0.2, 0.2, 0.1)
"""Of the teacher's classes a, b, c, d at every pixel."""
CARD = ModelCard(
    model=WIDER, classes=tuple(ClassEntry(name=name) for name in "abcd"), dataset="0" * 64,
    size=(32, 32), step=1, kdcore="0",
    metrics={"val/iou/a": 0.8, "val/iou/b": 0.4, "val/iou/c": 0.2, "val/iou/d": 0.6},
)  # fmt: skip


class Fixed(nn.Module):
    """The same logits at every pixel, and features that are the image, at strides 1 and 8."""

    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self.encoder = Strided()
        self.logits_C = nn.Parameter(logits)

    def forward(self, images_NCHW: Tensor) -> Tensor:
        deep_NCHW = self.encoder(images_NCHW)[-1]
        count, _, height, width = deep_NCHW.shape
        return self.logits_C[None, :, None, None].repeat(count, 1, height, width)


class Strided(nn.Module):
    def forward(self, images_NCHW: Tensor) -> list[Tensor]:
        return [images_NCHW, images_NCHW[..., ::8, ::8]]


def fixed(*probabilities: float) -> SegmentationModel:
    """Logits are the logarithms plus 3, which no softmax sees."""
    logits_C = torch.tensor(probabilities, dtype=torch.float64).log().float() + 3
    return SegmentationModel(Fixed(logits_C), ModelSpec.model_validate(STUDENT), len(probabilities))


def teacher(model: SegmentationModel, sources: Any, weight: float = 1.0) -> Teacher:
    renamed = model if sources is None else with_classes(model, sources)
    renamed = renamed.requires_grad_(False).eval()
    return Teacher("t", weight, renamed, CARD, sources)


def objective(
    student: SegmentationModel, teachers: list[Teacher], term: dict[str, Any], kind: str
) -> Objective:
    torch.manual_seed(0)
    return Objective(
        [TERM.validate_python(term)], student, teachers,
        ensemble_spec=Ensemble.model_validate({"kind": kind}), steps=10,
        class_pixels=(1,) * student.classes,
    )  # fmt: skip


def batch(classes: int, labelled: int = 2) -> Batch:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (2, 3, 32, 32), generator=generator, dtype=torch.uint8)
    labels = (torch.arange(32) // 8 % classes).expand(2, 32, 32).clone()
    labels[:, :2] = 255
    labels[labelled:] = 0
    return Batch(images, labels, labelled)


@pytest.mark.parametrize(
    ("sources", "expected"),
    [
        (((0,), (1,), (2,), (3,)), (0.5, 0.2, 0.2, 0.1)),
        (((3,), (0,), (2,), (1,)), (0.1, 0.5, 0.2, 0.2)),
        (((1,), (0,)), (2 / 7, 5 / 7)),
        (((1, 2), (0,)), (4 / 9, 5 / 9)),
        (((3,), (2, 0, 1)), (0.1, 0.9)),
        (((), (0,), (3,)), (0, 5 / 6, 1 / 6)),
    ],
    ids=["same", "permuted", "superset", "merged", "merged whole", "subset"],
)
def test_probabilities_of_the_datasets_classes(sources: Any, expected: tuple[float, ...]) -> None:
    model = fixed(*PROBABILITIES)
    for size in (32, 40):
        logits_NCHW = with_classes(model, sources)(torch.zeros(1, 3, size, size))
        assert logits_NCHW.softmax(dim=1)[0, :, 1, 1].tolist() == pytest.approx(expected, abs=1e-6)
    assert model(torch.zeros(1, 3, 32, 32)).shape[1] == 4, "the network itself is as it was"


def test_same_classes_are_the_same_network() -> None:
    model = fixed(*PROBABILITIES)
    assert with_classes(model, ((0,), (1,), (2,), (3,))) is model


def test_an_unknown_class_is_never_predicted_in_any_precision() -> None:
    model = with_classes(fixed(*PROBABILITIES), ((), (0,), (3,)))
    assert int(model(torch.zeros(1, 3, 32, 32)).argmax(1).min()) == 1
    assert math.isfinite(torch.tensor(UNKNOWN).half().item())


@pytest.fixture(scope="module")
def real_student() -> SegmentationModel:
    torch.manual_seed(0)
    return build_model(ModelSpec.model_validate(STUDENT), 4).eval()


@pytest.fixture(scope="module")
def real_teacher() -> SegmentationModel:
    torch.manual_seed(1)
    return build_model(WIDER, 4)


def with_other_order(model: SegmentationModel, order: list[int]) -> SegmentationModel:
    """The network as if its training had listed its classes in ``order``."""
    shuffled = copy.deepcopy(model)
    head: Any = shuffled.net.segmentation_head
    head[0].weight.data = head[0].weight.data[order]
    head[0].bias.data = head[0].bias.data[order]
    return shuffled


@pytest.mark.parametrize("kind", TEACHING)
def test_a_permuted_teacher_teaches_the_same(
    kind: str, real_student: SegmentationModel, real_teacher: SegmentationModel
) -> None:
    shuffled = with_other_order(real_teacher, [3, 0, 2, 1])
    plain, mapped, positional = (
        objective(real_student, [teacher(model, sources)], {"kind": kind}, "logit_mean")(
            real_student, batch(4), 0
        ).loss.item()
        for model, sources in (
            (real_teacher, None),
            (shuffled, ((1,), (3,), (2,), (0,))),
            (shuffled, None),
        )
    )
    assert mapped == pytest.approx(plain, rel=1e-5)
    if not TERM.validate_python({"kind": kind}).over_features:
        assert positional != pytest.approx(plain, rel=1e-5)


def kl(first: tuple[float, ...], second: tuple[float, ...]) -> float:
    return sum(p * math.log(p / q) for p, q in zip(first, second, strict=True))


def test_kd_with_a_superset_teacher() -> None:
    student = fixed(0.6, 0.4)
    whole = objective(
        student, [teacher(fixed(*PROBABILITIES), ((1,), (0,)))], {"kind": "kd"}, "logit_mean"
    )
    expected = kl((2 / 7, 5 / 7), (0.6, 0.4))
    assert whole(student, batch(2), 0).loss.item() == pytest.approx(expected, rel=1e-5)


def test_kd_with_a_merged_class() -> None:
    student = fixed(0.6, 0.4)
    whole = objective(
        student, [teacher(fixed(*PROBABILITIES), ((1, 2), (0,)))], {"kind": "kd"}, "logit_mean"
    )
    expected = kl((4 / 9, 5 / 9), (0.6, 0.4))
    assert whole(student, batch(2), 0).loss.item() == pytest.approx(expected, rel=1e-5)


def test_kd_with_a_subset_teacher_is_over_what_both_know() -> None:
    """Renormalised on both sides; the odds of the unknown class get no gradient."""
    student = fixed(0.5, 0.3, 0.2)
    whole = objective(
        student, [teacher(fixed(*PROBABILITIES), ((), (0,), (3,)))], {"kind": "kd"}, "logit_mean"
    )
    loss = whole(student, batch(3), 0).loss
    assert loss.item() == pytest.approx(kl((5 / 6, 1 / 6), (0.6, 0.4)), rel=1e-5)
    student.zero_grad()
    loss.backward()
    gradient = student.net.logits_C.grad
    assert isinstance(gradient, Tensor)
    assert gradient[0].item() == 0
    assert gradient[1].item() == pytest.approx(0.6 - 5 / 6, rel=1e-5)


def test_labels_of_unknown_classes_are_ignored_and_images_without_masks_are_not() -> None:
    group = Group(known=(0, 2), classes=3, teachers=(0,), share=1.0)
    labels_NHW = torch.tensor([[[0, 1, 2, 255]], [[0, 0, 0, 255]]])
    assert group.labels(labels_NHW, 1).tolist() == [[[0, 255, 1, 255]], [[0, 0, 0, 255]]]
    without_first = Group(known=(1, 2), classes=3, teachers=(0,), share=1.0)
    assert without_first.labels(labels_NHW, 1).tolist() == [[[255, 0, 1, 255]], [[0, 0, 0, 255]]]


@pytest.mark.parametrize("kind", TEACHING)
def test_every_term_takes_a_subset_teacher_and_does_not_see_its_unknown_pixels(
    kind: str, real_student: SegmentationModel, real_teacher: SegmentationModel
) -> None:
    taught = [teacher(real_teacher, ((0,), (), (3,), (2,)))]
    images = batch(4)
    absent = images.labels_NHW.masked_fill(images.labels_NHW == 1, 255)
    others = images.labels_NHW.masked_fill(images.labels_NHW == 2, 255)
    value, masked, other = (
        objective(real_student, taught, {"kind": kind}, "logit_mean")(
            real_student, replace(images, labels_NHW=labels_NHW), 0
        ).loss.item()
        for labels_NHW in (images.labels_NHW, absent, others)
    )
    assert math.isfinite(value)
    # ifvd divides by all pixels: the ones left out add 0, as published.
    assert value == pytest.approx(masked, rel=1e-6)
    assert value != pytest.approx(other, rel=1e-6)


@pytest.mark.parametrize("kind", ["logit_mean", "prob_mean", "confidence", "entropy", "class_iou"])
def test_teachers_that_know_different_classes_meet_by_their_weights(kind: str) -> None:
    """Σ w·kd, each over its own classes: there is no one distribution over both."""
    student = fixed(0.5, 0.3, 0.2)
    one = teacher(fixed(*PROBABILITIES), ((), (0,), (3,)), weight=3.0)
    two = teacher(fixed(*PROBABILITIES), ((1,), (0,), ()), weight=1.0)
    value = objective(student, [one, two], {"kind": "kd"}, kind)(student, batch(3), 0).loss
    expected = 0.75 * kl((5 / 6, 1 / 6), (0.6, 0.4))
    expected += 0.25 * kl((2 / 7, 5 / 7), (0.625, 0.375))
    assert value.item() == pytest.approx(expected, rel=1e-5)


def test_each_group_is_sure_by_itself() -> None:
    """5/6 passes 0.8, 5/7 does not: of the pool one teaches all, the other nothing."""
    student = fixed(0.5, 0.3, 0.2)
    one = teacher(fixed(*PROBABILITIES), ((), (0,), (3,)), weight=3.0)
    two = teacher(fixed(*PROBABILITIES), ((1,), (0,), ()), weight=1.0)
    whole = Objective(
        [TERM.validate_python({"kind": "kd"})], student, [one, two],
        ensemble_spec=Ensemble(), steps=10, class_pixels=(1, 1, 1), min_confidence=0.8,
    )  # fmt: skip
    terms = whole(student, batch(3, labelled=1), 0).terms
    assert terms["pool_kept"].item() == pytest.approx(0.75)
    first, second = kl((5 / 6, 1 / 6), (0.6, 0.4)), kl((2 / 7, 5 / 7), (0.625, 0.375))
    assert terms["kd"].item() == pytest.approx(0.75 * first + 0.25 * second, rel=1e-5)


def test_groups() -> None:
    groups = grouped([(0, 1), (0, 1, 2), (0, 1)], [1.0, 2.0, 1.0], classes=3)
    assert [(group.known, group.teachers, group.share) for group in groups] == [
        ((0, 1), (0, 2), 0.5),
        ((0, 1, 2), (1,), 0.5),
    ]


def test_class_iou_goes_by_the_teachers_names() -> None:
    """Renamed, and the mean of the parts of a merged class: (0.4, 0.5) against (0.8, 0.2)."""
    student = fixed(0.6, 0.4)
    one = teacher(fixed(*PROBABILITIES), ((1,), (2, 0)))
    two = teacher(fixed(*PROBABILITIES), ((0,), (2,)))
    value = objective(student, [one, two], {"kind": "kd"}, "class_iou")(student, batch(2), 0).loss
    first, second = (2 / 9, 7 / 9), (5 / 7, 2 / 7)
    shares = (0.4 / 1.2, 0.5 / 0.7)
    mixed = [w * a + (1 - w) * b for w, a, b in zip(shares, first, second, strict=True)]
    target = (mixed[0] / sum(mixed), mixed[1] / sum(mixed))
    assert value.item() == pytest.approx(kl(target, (0.6, 0.4)), rel=1e-5)

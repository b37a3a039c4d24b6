"""A batch taken in parts: their losses and gradients add up to those of the whole."""

from dataclasses import replace
from typing import Any, get_args

import pytest
import torch
from torch import Tensor

from kdcore.data.batches import Batch
from kdcore.distill.objective import Objective
from kdcore.distill.teachers import Teacher
from kdcore.models.network import SegmentationModel
from kdcore.spec.objective import Term
from tests.kdcore.distill.test_objective import KINDS, objective

_MODELS = get_args(get_args(Term)[0])
MEANS = {model.model_fields["kind"].default: model.mean_of for model in _MODELS}
NEEDS_LABELS = {model.model_fields["kind"].default: model.needs_labels for model in _MODELS}
WITHOUT_CHANCE: dict[str, dict[str, Any]] = {"mgd": {"ratio": 0.0}}


def batch() -> Batch:
    """Five labelled images and two without masks; ignored pixels lie unevenly, one image is all."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (7, 3, 64, 64), generator=generator, dtype=torch.uint8)
    labels = torch.arange(64).div(22, rounding_mode="floor").expand(7, 64, 64).clone()
    for index in range(5):
        labels[index, : 12 * index] = 255
    labels[3] = 255
    labels[5:] = 0
    labels[6, 40:] = 255
    return Batch(images, labels, 5)


def gradients(
    whole: Objective, student: SegmentationModel, *, parts: int
) -> tuple[float, dict[str, Tensor]]:
    """Loss and gradients of student, heads and adapters."""
    owners = {"student": student, "objective": whole}
    for owner in owners.values():
        owner.zero_grad()
    if parts == 1:
        total = whole(student, batch(), 0)
        total.loss.backward()
        loss = total.loss.item()
    else:
        lesson = whole.lesson(batch(), asked_in=parts)
        loss = 0.0
        for index in range(parts):
            total = whole.loss(student, lesson.part(index, parts), 0, whole=lesson)
            total.loss.backward()
            loss += total.loss.item()
    return loss, {
        f"{name}.{each}": parameter.grad.clone()
        for name, owner in owners.items()
        for each, parameter in owner.named_parameters()
        if parameter.grad is not None
    }


def assert_adds_up(whole: Objective, student: SegmentationModel) -> None:
    loss, expected = gradients(whole, student, parts=1)
    for parts in (2, 3):
        of_parts, found = gradients(whole, student, parts=parts)
        assert of_parts == pytest.approx(loss, rel=1e-5)
        assert found.keys() == expected.keys()
        scale = max(float(each.abs().max()) for each in expected.values())
        for name, each in expected.items():
            torch.testing.assert_close(found[name], each, rtol=1e-3, atol=1e-5 * scale)


@pytest.mark.parametrize("kind", [*(kind for kind in KINDS if MEANS[kind] != "batch"), "ifvd"])
def test_means_over_pixels_and_images_add_up(
    kind: str, student: SegmentationModel, teachers: list[Teacher]
) -> None:
    term = {"kind": kind, **WITHOUT_CHANCE.get(kind, {})}
    assert_adds_up(objective(student, teachers, term), student)


def test_so_do_class_weights_heads_the_gate_and_ensembles(
    student: SegmentationModel, teachers: list[Teacher]
) -> None:
    heads = {"heads": ["stride8", "stride16"]}
    whole = objective(
        student, teachers,
        {"kind": "ce", "class_weights": [0.2, 1.0, 3.0], "weight": 0.5, **heads},
        {"kind": "kd", "temperature": 2.0, **heads},
        {"kind": "cwd", "over": "features"},
        kind="entropy", min_confidence=0.34,
    )  # fmt: skip
    assert_adds_up(whole, student)
    lesson = whole.lesson(batch(), asked_in=2)
    parts = [whole.loss(student, lesson.part(index, 2), 0, whole=lesson) for index in range(2)]
    both = parts[0] + parts[1]
    for name, value in whole(student, batch(), 0).terms.items():
        assert both.terms[name].item() == pytest.approx(value.item(), rel=1e-4), name
    assert 0 < both.terms["pool_kept"].item() < 1


@pytest.mark.parametrize("kind", [kind for kind in KINDS if MEANS[kind] == "batch"])
def test_of_other_terms_it_is_the_mean_by_images(
    kind: str, student: SegmentationModel, teachers: list[Teacher]
) -> None:
    whole = objective(student, teachers, {"kind": kind})
    loss, _ = gradients(whole, student, parts=2)
    lesson = whole.lesson(batch())
    images, mean = 0, 0.0
    for index in range(2):
        part = lesson.part(index, 2)
        count = part.batch.labelled if NEEDS_LABELS[kind] else len(part.batch.images_NCHW)
        mean += count * whole.loss(student, part, 0).loss.item()
        images += count
    assert loss == pytest.approx(mean / images, rel=1e-4)


def test_parts_hold_every_image_once_with_the_labelled_ones_first() -> None:
    full = replace(batch(), views=tuple("abcdefg"))
    parts = [full.part(index, 2) for index in range(2)]
    assert [part.labelled for part in parts] == [3, 2]
    assert [part.views for part in parts] == [("a", "c", "e", "f"), ("b", "d", "g")]
    for part in parts:
        for place, name in enumerate(part.views):
            torch.testing.assert_close(
                part.images_NCHW[place], full.images_NCHW["abcdefg".index(name)]
            )


@pytest.mark.parametrize(
    ("labelled", "pool", "least", "splits"),
    [(2, 0, 1, True), (1, 3, 1, False), (2, 1, 1, False), (2, 2, 2, True), (3, 0, 2, False)],
)
def test_what_can_be_split(labelled: int, pool: int, least: int, splits: bool) -> None:
    images = torch.zeros(labelled + pool, 3, 1, 1, dtype=torch.uint8)
    given = Batch(images, torch.zeros(labelled + pool, 1, 1), labelled)
    assert given.splits(2, least=least) is splits

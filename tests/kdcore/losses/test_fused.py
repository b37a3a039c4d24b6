"""`ce` and `kd` from logits of any grid, against interpolation and softmax as torch has them."""

from collections.abc import Iterator
from math import prod
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.profiler import profile

from kdcore.losses import build, cross_entropy, kd, tiles

CLASSES = 7
SIZES = [(5, 6), (13, 17), (20, 24), (40, 3)]
"""Grids of logits whose labels are 20×24: stride 4, no stride, the same, finer and coarser at once."""
LABELS = (20, 24)


@pytest.fixture(autouse=True, params=["many", "one"])
def tiling(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "many":
        # Tiles of 4 rows or less and 10 columns, the last ones narrower; products of 5 columns.
        monkeypatch.setattr(tiles, "_FLOATS_CPU", CLASSES * 40)
        monkeypatch.setattr(tiles, "_BLOCK", 5)
        monkeypatch.setattr(tiles, "_ROWS", 4)


def logits(seed: int, size: tuple[int, int], dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    values = 3 * torch.randn(2, CLASSES, *size, generator=generator, dtype=torch.float64)
    return values.to(dtype).requires_grad_()


def labels() -> Tensor:
    generator = torch.Generator().manual_seed(9)
    drawn = torch.randint(0, CLASSES, (2, *LABELS), generator=generator)
    drawn[torch.rand(drawn.shape, generator=generator) < 0.2] = 255
    return drawn


def enlarged(logits_NCHW: Tensor) -> Tensor:
    return F.interpolate(logits_NCHW, size=LABELS, mode="bilinear", align_corners=False)


def plain_kd(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    student, teacher = (
        (enlarged(x) / temperature).movedim(1, -1)[labels() != 255]
        for x in (student, teacher.detach())
    )
    return temperature**2 * F.kl_div(
        student.log_softmax(1), teacher.log_softmax(1), reduction="batchmean", log_target=True
    )


def assert_same(ours: Tensor, plain: Tensor, by: Tensor) -> None:
    (found,) = torch.autograd.grad(ours, by)
    (expected,) = torch.autograd.grad(plain, by)
    tolerance = 1e-12 if by.dtype == torch.float64 else 2e-6
    assert ours.dtype == by.dtype
    assert ours.item() == pytest.approx(plain.item(), rel=tolerance)
    assert found.is_contiguous()
    assert (found - expected).abs().max() <= tolerance * expected.abs().max()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("size", SIZES)
def test_cross_entropy(size: tuple[int, int], weighted: bool, dtype: torch.dtype) -> None:
    student = logits(0, size, dtype)
    weights = torch.linspace(0, 2, CLASSES, dtype=dtype) if weighted else None
    ours = cross_entropy(student, labels(), class_weights_C=weights)
    plain = F.cross_entropy(enlarged(student), labels(), weight=weights, ignore_index=255)
    assert_same(ours, plain, student)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("teacher_size", SIZES)
def test_kd_at_the_labels(
    size: tuple[int, int], teacher_size: tuple[int, int], dtype: torch.dtype
) -> None:
    student, teacher = logits(0, size, dtype), logits(1, teacher_size, dtype)
    ours = kd(student, teacher, labels(), temperature=1.7, grid="labels")
    assert_same(ours, plain_kd(student, teacher, 1.7), student)


def test_kd_at_the_labels_with_a_clamp_clips_what_is_compared() -> None:
    student, teacher = logits(0, (5, 6)), logits(1, (13, 17))
    ours = kd(student, teacher, labels(), clamp=1.5, grid="labels")
    clipped = [enlarged(x).clamp(-1.5, 1.5) for x in (student, teacher)]
    assert_same(ours, plain_kd(clipped[0], clipped[1], 1.0), student)


def test_kd_at_the_logits_takes_the_nearest_label_as_mask() -> None:
    student, teacher = logits(0, (5, 6)), logits(1, (5, 6))
    nearest = labels()[:, 2::4, 2::4]
    of_labels = kd(student, teacher, labels(), temperature=2)
    of_nearest = kd(student, teacher, nearest, temperature=2, grid="labels")
    assert of_labels.item() == of_nearest.item()
    elsewhere = kd(student, teacher, labels(), temperature=2, grid="labels")
    assert abs(of_labels.item() - elsewhere.item()) > 0.01


def test_the_grid_is_a_field_of_the_term() -> None:
    student, teacher = logits(0, (5, 6)), logits(1, (5, 6))
    for term, grid in (({}, "logits"), ({"grid": "labels"}, "labels")):
        made = build({"kind": "kd"} | term)
        assert made(student, teacher, labels()).item() == (
            kd(student, teacher, labels(), grid=grid).item()  # type: ignore[arg-type]
        )


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("size", SIZES)
def test_half_types_are_computed_in_float32(size: tuple[int, int], dtype: torch.dtype) -> None:
    for term in ({"kind": "ce"}, {"kind": "kd", "grid": "labels"}):
        student, teacher = logits(0, size, dtype), logits(1, (13, 17), dtype)
        wide = student.detach().float().requires_grad_()
        of_half = build(term)(student, teacher, labels())
        of_wide = build(term)(wide, teacher.detach().float(), labels())
        assert of_half.dtype == torch.float32
        assert of_half.item() == of_wide.item()
        of_half.backward()
        of_wide.backward()
        assert student.grad is not None
        assert wide.grad is not None
        assert torch.equal(student.grad, wide.grad.to(dtype))


@pytest.mark.parametrize("size", SIZES)
def test_the_layout_in_memory_changes_nothing(size: tuple[int, int]) -> None:
    for term in ({"kind": "ce"}, {"kind": "kd", "grid": "labels"}):
        student, teacher = logits(0, size), logits(1, (13, 17))
        last, teacher_last = (
            x.detach().contiguous(memory_format=torch.channels_last) for x in (student, teacher)
        )
        last.requires_grad_()
        loss = build(term)
        assert_same(loss(last, teacher_last, labels()), loss(last, teacher, labels()), last)
        assert loss(last, teacher_last, labels()).item() == pytest.approx(
            loss(student, teacher, labels()).item(), rel=1e-12
        )


def test_a_gradient_can_be_asked_for_twice_and_scaled() -> None:
    student = logits(0, (5, 6))
    loss = cross_entropy(student, labels())
    (once,) = torch.autograd.grad(loss, student, retain_graph=True)
    (thrice,) = torch.autograd.grad(3 * loss, student)
    assert torch.allclose(thrice, 3 * once, rtol=1e-14)


def test_without_gradients_there_is_no_graph() -> None:
    with torch.no_grad():
        assert not cross_entropy(logits(0, (5, 6)), labels()).requires_grad
    assert not cross_entropy(logits(0, (5, 6)).detach(), labels()).requires_grad


@pytest.fixture
def medium() -> Iterator[None]:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    yield
    torch.set_float32_matmul_precision(before)


@pytest.mark.usefixtures("medium")
def test_products_are_exact_where_the_process_allows_less(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = set()
    product = torch.mm

    def spy(*arguments: Any, **more: Any) -> Tensor:
        seen.add(torch.get_float32_matmul_precision())
        return product(*arguments, **more)

    monkeypatch.setattr(torch, "mm", spy)
    cross_entropy(logits(0, (5, 6), torch.float32), labels())
    assert seen == {"highest"}
    assert torch.get_float32_matmul_precision() == "medium"


@pytest.mark.parametrize("tiling", ["many"], indirect=True)
def test_no_tensor_has_all_classes_of_all_pixels() -> None:
    student, teacher, drawn = logits(0, (5, 6)), logits(1, (5, 6)), labels()
    with profile(profile_memory=True) as profiled:
        loss = cross_entropy(student, drawn) + kd(student, teacher, drawn, grid="labels")
        loss.backward()
    assert profiled.kineto_results is not None
    events = profiled.kineto_results.events()
    sizes = [event.nbytes() for event in events if event.name() == "[memory]"]
    # One number a pixel: labels without a hole, and weights.
    assert max(sizes) == 2 * prod(LABELS) * 8

"""What holds for every loss; a new one is tested by being added to `TERMS`."""

from typing import Any, get_args

import pytest
import torch
from torch import Tensor

from kdcore.losses import build, class_weights
from kdcore.spec.objective import Term

TERMS: list[dict[str, Any]] = [
    {"kind": "ce"},
    {"kind": "dice"},
    {"kind": "kd", "temperature": 2},
    {"kind": "cwd", "temperature": 4},
    {"kind": "pkd"},
]
TEACHER_TERMS = [term for term in TERMS if term["kind"] not in ("ce", "dice")]
DIVERGENCES = TEACHER_TERMS


def name(term: dict[str, Any]) -> str:
    return str(term["kind"])


def values(seed: int, dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(2, 3, 5, 6, generator=generator, dtype=torch.float64).to(dtype)


def labels(ignored_rows: int = 0) -> Tensor:
    made = torch.arange(2 * 5 * 6).reshape(2, 5, 6) % 3
    made[:, :ignored_rows] = 255
    return made


def test_every_kind_of_term_is_tested() -> None:
    union = get_args(get_args(Term)[0])
    assert {term["kind"] for term in TERMS} == {kind.model_fields["kind"].default for kind in union}


@pytest.mark.parametrize("term", DIVERGENCES, ids=name)
def test_equal_inputs_give_zero(term: dict[str, Any]) -> None:
    assert build(term)(values(0), values(0), labels()).item() == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("term", TERMS, ids=name)
def test_never_negative(term: dict[str, Any]) -> None:
    for seed in range(20):
        assert build(term)(values(seed), values(seed + 100), labels()).item() >= 0


@pytest.mark.parametrize("term", TERMS, ids=name)
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_all_ignored_is_exactly_zero_and_backward_works(
    term: dict[str, Any], dtype: torch.dtype
) -> None:
    student = (100 * values(0, dtype)).requires_grad_()
    value = build(term)(student, values(1, dtype), labels(ignored_rows=5))
    value.backward()
    assert value.item() == 0
    assert student.grad is not None
    assert torch.equal(student.grad, torch.zeros_like(student.grad))


@pytest.mark.parametrize("term", TERMS, ids=name)
def test_ignored_pixels_neither_matter_nor_learn(term: dict[str, Any]) -> None:
    student = values(0).requires_grad_()
    disturbed = values(0)
    disturbed[:, :, :2] += 7 * values(5)[:, :, :2]
    teacher = values(1)
    disturbed_teacher = teacher.clone()
    disturbed_teacher[:, :, :2] -= 3
    value = build(term)(student, teacher, labels(ignored_rows=2))
    assert value.item() == pytest.approx(
        build(term)(disturbed, disturbed_teacher, labels(ignored_rows=2)).item(), abs=1e-12
    )
    value.backward()
    assert student.grad is not None
    assert student.grad[:, :, :2].abs().max() == 0
    assert student.grad[:, :, 2:].abs().max() > 0


@pytest.mark.parametrize("term", TERMS, ids=name)
def test_masking_equals_leaving_the_rows_out(term: dict[str, Any]) -> None:
    masked = build(term)(values(0), values(1), labels(ignored_rows=2))
    selected = build(term)(values(0)[:, :, 2:], values(1)[:, :, 2:], labels()[:, 2:])
    assert masked.item() == pytest.approx(selected.item(), abs=1e-12)


@pytest.mark.parametrize("term", TERMS, ids=name)
def test_a_batch_said_twice_gives_the_same_value(term: dict[str, Any]) -> None:
    term = term | ({"eps": 1e-9} if term["kind"] == "dice" else {})
    exact = term["kind"] != "pkd"  # its unbiased deviation knows the number of pixels
    twice = [torch.cat([x, x]) for x in (values(0), values(1), labels())]
    assert build(term)(*twice).item() == pytest.approx(
        build(term)(values(0), values(1), labels()).item(), abs=1e-9 if exact else 0.02
    )


@pytest.mark.parametrize("term", TERMS, ids=name)
def test_gradient_is_the_derivative(term: dict[str, Any]) -> None:
    student = values(0).requires_grad_()
    loss = build(term)
    torch.autograd.gradcheck(lambda x: loss(x, values(1), labels(ignored_rows=1)), (student,))


@pytest.mark.parametrize("term", TERMS, ids=name)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_finite_at_a_hundredfold(term: dict[str, Any], dtype: torch.dtype) -> None:
    student = (100 * values(0, dtype)).requires_grad_()
    value = build(term)(student, 100 * values(1, dtype), labels(ignored_rows=1))
    value.backward()
    assert student.grad is not None
    assert torch.isfinite(value)
    assert torch.isfinite(student.grad).all()


def test_kd_does_not_see_a_constant_per_pixel() -> None:
    shift = torch.linspace(-3, 3, 30, dtype=torch.float64).reshape(1, 1, 5, 6)
    loss = build({"kind": "kd"})
    assert loss(values(0) + shift, values(1), labels()).item() == pytest.approx(
        loss(values(0), values(1), labels()).item(), abs=1e-12
    )


def test_cwd_does_not_see_a_constant_per_channel() -> None:
    shift = torch.tensor([-2.0, 0.5, 3.0], dtype=torch.float64).reshape(1, 3, 1, 1)
    loss = build({"kind": "cwd"})
    assert loss(values(0) + shift, values(1), labels()).item() == pytest.approx(
        loss(values(0), values(1), labels()).item(), abs=1e-12
    )


def test_pkd_does_not_see_scale_and_shift() -> None:
    loss = build({"kind": "pkd"})
    assert loss(4 * values(0) + 1, values(1), labels()).item() == pytest.approx(
        loss(values(0), values(1), labels()).item(), abs=1e-5
    )


def test_logits_of_other_strides_meet_at_the_smaller_grid() -> None:
    teacher = torch.nn.functional.interpolate(
        values(1), scale_factor=2, mode="bilinear", align_corners=False
    )
    value = build({"kind": "kd"})(values(0), teacher, labels().repeat_interleave(2, 1))
    assert torch.isfinite(value)
    student = values(0)[:, :, :2, :3]
    assert build({"kind": "ce"})(student, None, labels()).ndim == 0


def test_an_adapter_only_where_widths_differ() -> None:
    assert not list(build({"kind": "pkd"}, channels=(4, 4)).parameters())
    adapted = build({"kind": "pkd"}, channels=(3, 7)).double()
    assert len(list(adapted.parameters())) == 2
    teacher = torch.randn(2, 7, 5, 6, dtype=torch.float64)
    assert adapted(values(0), teacher, labels()).item() > 0


def test_pixels_of_classes_without_weight_alone_are_nothing_to_learn_from() -> None:
    loss = build({"kind": "ce"}, class_weights_C=torch.tensor([0.0, 1.0, 1.0]))
    student = values(0).requires_grad_()
    value = loss(student, None, torch.zeros(2, 5, 6, dtype=torch.int64))
    value.backward()
    assert value.item() == 0


def test_class_weights_are_clipped_and_cover_absent_classes() -> None:
    weights = class_weights("raw_inverse", (1_000_000, 10, 0))
    assert weights.min() >= 0.1
    assert weights.max() <= 10
    assert weights[2] == weights[1]
    square_root = class_weights("raw_inverse_sqrt", (900, 100))
    assert (square_root[1] / square_root[0]).item() == pytest.approx(3, abs=1e-5)

"""What holds for every loss. A new one is tested by being registered: the list is the spec's union."""

from typing import Any, get_args

import pytest
import torch
from torch import Tensor

from kdcore.errors import SpecError
from kdcore.losses import Loss, build, class_weights
from kdcore.losses.terms import FUNCTIONS
from kdcore.spec.objective import Term

UNION = {str(model.model_fields["kind"].default): model for model in get_args(get_args(Term)[0])}
SETTINGS: dict[str, dict[str, Any]] = {
    # Nothing hidden: with chance in it no two values could be compared.
    "mgd": {"ratio": 0},
    # At 5 × 6 pixels the published band covers everything, and the inside would not be tested.
    "boundary": {"band": 1},
    # As published its mean counts ignored pixels; see `test_ifvd_as_published_divides_by_all_pixels`.
    "ifvd": {"mean_over": "valid"},
}
TERMS = [{"kind": kind} | SETTINGS.get(kind, {}) for kind in UNION]
TEACHER_TERMS = [term for term in TERMS if UNION[term["kind"]].needs_teacher]
LABEL_TERMS = [term for term in TERMS if not UNION[term["kind"]].needs_teacher]
# A cross entropy with the teacher, and a network between student and teacher.
NO_DIVERGENCES = {"ofa", "mgd"}
DIVERGENCES = [term for term in TEACHER_TERMS if term["kind"] not in NO_DIVERGENCES]
# Smoothed by a number of pixels, or with a deviation that knows the number of pixels.
SMOOTHED = {"dice": {"eps": 1e-9}, "tversky": {"eps": 1e-9}}
ROUGH = {"pkd": 0.02}
# By definition in pixels: at is 1 / (h·w), mgd a sum of convolutions, borders have a width.
IN_PIXELS = {"at", "mgd", "boundary", "boundary_label"}


def name(term: dict[str, Any]) -> str:
    return str(term["kind"])


def made(term: dict[str, Any]) -> Loss:
    """The same module for the same term, with the same numbers in its convolutions."""
    torch.manual_seed(0)
    return build(term, channels=(3, 3))


def values(seed: int, dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(2, 3, 5, 6, generator=generator, dtype=torch.float64).to(dtype)


def labels(ignored_rows: int = 0) -> Tensor:
    """Classes 0, 1, 2 as stripes two pixels wide: down in the one image, across in the other."""
    down = torch.arange(6).div(2, rounding_mode="floor").expand(5, 6)
    across = torch.arange(5).div(2, rounding_mode="floor")[:, None].expand(5, 6)
    stripes = torch.stack([down, across]).clone()
    stripes[:, :ignored_rows] = 255
    return stripes


def test_every_kind_has_a_function_that_takes_its_fields() -> None:
    assert FUNCTIONS.keys() == UNION.keys()
    for term in TERMS:
        assert made(term)(values(0), values(1), labels()).ndim == 0


@pytest.mark.parametrize("term", TERMS, ids=name)
def test_a_resolved_term_is_read_back_as_it_was(term: dict[str, Any]) -> None:
    """With every default written out, as it lies in a job's spec."""
    spec = build(term).spec
    assert build(spec.to_json()).spec == spec


@pytest.mark.parametrize("term", DIVERGENCES, ids=name)
def test_equal_inputs_give_zero(term: dict[str, Any]) -> None:
    for ignored in (0, 2):
        value = made(term)(values(0), values(0), labels(ignored))
        assert value.item() == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("term", TERMS, ids=name)
def test_never_negative(term: dict[str, Any]) -> None:
    for seed in range(20):
        assert made(term)(values(seed), values(seed + 100), labels()).item() >= 0


@pytest.mark.parametrize("term", TERMS, ids=name)
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_all_ignored_is_exactly_zero_and_backward_works(
    term: dict[str, Any], dtype: torch.dtype
) -> None:
    student = (100 * values(0, dtype)).requires_grad_()
    value = made(term)(student, values(1, dtype), labels(ignored_rows=5))
    value.backward()
    assert value.item() == 0
    assert student.grad is not None
    assert torch.equal(student.grad, torch.zeros_like(student.grad))


@pytest.mark.parametrize("term", TERMS, ids=name)
def test_an_ignored_image_changes_nothing(term: dict[str, Any]) -> None:
    some = labels()
    some[1] = 255
    both = made(term)(values(0), values(1), some)
    first = made(term)(values(0)[:1], values(1)[:1], some[:1])
    assert both.item() == pytest.approx(first.item(), abs=1e-12)


@pytest.mark.parametrize("ignore_index", [255, -1, 0])
@pytest.mark.parametrize("term", TERMS, ids=name)
def test_any_number_may_mean_ignored(term: dict[str, Any], ignore_index: int) -> None:
    # With 0 as the number, class 0 is a class that never occurs.
    known = labels(ignored_rows=2).masked_fill(labels(ignored_rows=2) == 0, 1)
    renamed = known.masked_fill(known == 255, ignore_index)
    assert torch.equal(
        made(term)(values(0), values(1), renamed, ignore_index=ignore_index),
        made(term)(values(0), values(1), known),
    )


@pytest.mark.parametrize("term", TERMS, ids=name)
def test_ignored_pixels_neither_matter_nor_learn(term: dict[str, Any]) -> None:
    student = values(0).requires_grad_()
    disturbed = values(0)
    disturbed[:, :, :2] += 7 * values(5)[:, :, :2]
    teacher = values(1)
    disturbed_teacher = teacher.clone()
    disturbed_teacher[:, :, :2] -= 3
    value = made(term)(student, teacher, labels(ignored_rows=2))
    assert value.item() == pytest.approx(
        made(term)(disturbed, disturbed_teacher, labels(ignored_rows=2)).item(), abs=1e-12
    )
    value.backward()
    assert student.grad is not None
    assert student.grad[:, :, :2].abs().max() == 0
    assert student.grad[:, :, 2:].abs().max() > 0


@pytest.mark.parametrize("term", TERMS, ids=name)
def test_masking_equals_leaving_the_rows_out(term: dict[str, Any]) -> None:
    masked = made(term)(values(0), values(1), labels(ignored_rows=2))
    selected = made(term)(values(0)[:, :, 2:], values(1)[:, :, 2:], labels()[:, 2:])
    assert masked.item() == pytest.approx(selected.item(), abs=1e-12)


def test_ifvd_as_published_divides_by_all_pixels() -> None:
    masked = build({"kind": "ifvd"})(values(0), values(1), labels(ignored_rows=2))
    selected = build({"kind": "ifvd"})(values(0)[:, :, 2:], values(1)[:, :, 2:], labels()[:, 2:])
    assert masked.item() == pytest.approx(selected.item() * 3 / 5, abs=1e-12)


@pytest.mark.parametrize("term", TERMS, ids=name)
def test_a_batch_said_twice_gives_the_same_value(term: dict[str, Any]) -> None:
    loss = made(term | SMOOTHED.get(term["kind"], {}))
    twice = [torch.cat([x, x]) for x in (values(0), values(1), labels())]
    assert loss(*twice).item() == pytest.approx(
        loss(values(0), values(1), labels()).item(), abs=ROUGH.get(term["kind"], 1e-8)
    )


@pytest.mark.parametrize(
    "term", [term for term in TERMS if term["kind"] not in IN_PIXELS], ids=name
)
def test_pixels_said_twice_give_the_same_value(term: dict[str, Any]) -> None:
    unpooled = {"pool": 1} if term["kind"] == "skd" else {}
    loss = made(term | SMOOTHED.get(term["kind"], {}) | unpooled)
    twice = [x.repeat_interleave(2, -1) for x in (values(0), values(1), labels())]
    assert loss(*twice).item() == pytest.approx(
        loss(values(0), values(1), labels()).item(), abs=ROUGH.get(term["kind"], 1e-8)
    )


@pytest.mark.parametrize("term", TERMS, ids=name)
def test_gradient_is_the_derivative(term: dict[str, Any]) -> None:
    student = values(0).requires_grad_()
    loss = made(term)
    torch.autograd.gradcheck(lambda x: loss(x, values(1), labels(ignored_rows=1)), (student,))


@pytest.mark.parametrize("term", TEACHER_TERMS, ids=name)
def test_no_gradient_reaches_the_teacher(term: dict[str, Any]) -> None:
    student, teacher = values(0).requires_grad_(), values(1).requires_grad_()
    made(term)(student, teacher, labels()).backward()
    assert teacher.grad is None
    assert student.grad is not None


@pytest.mark.parametrize("term", TERMS, ids=name)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_finite_at_a_hundredfold(term: dict[str, Any], dtype: torch.dtype) -> None:
    student = (100 * values(0, dtype)).requires_grad_()
    value = made(term)(student, 100 * values(1, dtype), labels(ignored_rows=1))
    value.backward()
    assert value.dtype == torch.float32
    assert student.grad is not None
    assert torch.isfinite(value)
    assert torch.isfinite(student.grad).all()


@pytest.mark.parametrize("term", TERMS, ids=name)
def test_equal_and_constant_inputs_have_finite_gradients(term: dict[str, Any]) -> None:
    for student in (
        values(1, torch.float32),
        torch.zeros(2, 3, 5, 6),
        torch.full((2, 3, 5, 6), 9.0),
    ):
        student = student.clone().requires_grad_()
        made(term)(student, values(1, torch.float32), labels()).backward()
        assert student.grad is not None
        assert torch.isfinite(student.grad).all()


@pytest.mark.parametrize("term", TERMS, ids=name)
def test_autocast_does_not_reach_inside(term: dict[str, Any]) -> None:
    loss = made(
        term | ({"adapter": "always"} if "adapter" in UNION[term["kind"]].model_fields else {})
    )
    student, teacher = values(0, torch.float32), values(1, torch.float32)
    outside = loss(student, teacher, labels())
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(loss(student, teacher, labels()), outside)


@pytest.mark.parametrize("term", TEACHER_TERMS, ids=name)
def test_a_teacher_of_another_stride_meets_the_student(term: dict[str, Any]) -> None:
    teacher = torch.nn.functional.interpolate(
        values(1), scale_factor=2, mode="bilinear", align_corners=False
    )
    finer = labels(ignored_rows=1).repeat_interleave(2, 1).repeat_interleave(2, 2)
    at_finer = made(term)(values(0), teacher, finer)
    small = torch.nn.functional.interpolate(
        teacher, size=(5, 6), mode="bilinear", align_corners=False
    )
    at_coarser = made(term)(values(0), small, labels(ignored_rows=1))
    assert at_finer.item() == pytest.approx(at_coarser.item(), abs=1e-12)


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


def test_logit_std_does_not_see_scale() -> None:
    loss = build({"kind": "logit_std"})
    assert loss(5 * values(0), values(1), labels()).item() == pytest.approx(
        loss(values(0), values(1), labels()).item(), abs=1e-5
    )


def test_dist_sees_neither_scale_nor_shift_of_probabilities() -> None:
    """Pearson: student probabilities moved towards the uniform distribution change nothing."""
    student = values(0).softmax(1)
    loss = build({"kind": "dist"})
    assert loss((0.3 * student + 0.7 / 3).log(), values(1), labels()).item() == pytest.approx(
        loss(student.log(), values(1), labels()).item(), abs=1e-6
    )


def test_a_label_loss_takes_logits_of_a_smaller_stride() -> None:
    for term in LABEL_TERMS:
        assert build(term)(values(0)[:, :, :2, :3], None, labels()).ndim == 0


def test_hidden_places_come_from_the_global_generator() -> None:
    loss = made({"kind": "mgd"})
    drawn = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        drawn.append(loss(values(0), values(1), labels()).item())
    assert drawn[0] == drawn[1] != drawn[2]


def test_mgd_hides_the_share_that_was_asked_for() -> None:
    seen: list[Tensor] = []
    loss = build({"kind": "mgd", "ratio": 0.75}, channels=(3, 3))
    assert loss.generator is not None
    loss.generator.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    big = torch.ones(2, 3, 100, 100)
    loss(big, big, torch.zeros(2, 100, 100, dtype=torch.int64))
    assert (seen[0] == 0).all(dim=1).double().mean().item() == pytest.approx(0.75, abs=0.02)


def test_an_adapter_only_where_widths_differ_or_one_is_asked_for() -> None:
    for kind in ("pkd", "feature_l2", "cosine"):
        assert not list(build({"kind": kind}, channels=(4, 4)).parameters())
        assert list(build({"kind": kind, "adapter": "always"}, channels=(4, 4)).parameters())
        adapted = build({"kind": kind}, channels=(3, 7))
        assert len(list(adapted.parameters())) == 2
        teacher = torch.randn(2, 7, 5, 6, dtype=torch.float64)
        adapted(values(0), teacher, labels()).backward()
        assert all(parameter.grad is not None for parameter in adapted.parameters())


def test_relations_need_no_adapter() -> None:
    for kind in ("at", "skd", "ifvd", "cirkd"):
        loss = build({"kind": kind}, channels=(3, 7))
        assert not list(loss.parameters())
        assert loss(values(0), torch.randn(2, 7, 5, 6).double(), labels()).item() > 0


def test_mgd_has_a_generator_and_only_if_needed_an_adapter() -> None:
    assert len(list(build({"kind": "mgd"}, channels=(3, 3)).parameters())) == 4
    assert len(list(build({"kind": "mgd"}, channels=(3, 7)).parameters())) == 6


def test_fitnet_is_feature_l2() -> None:
    assert build({"kind": "fitnet"}).spec == build({"kind": "feature_l2"}).spec


def test_a_temperature_in_the_call_is_for_ramps() -> None:
    ramp = build({"kind": "kd", "temperature": {"from": 2, "to": 4}})
    for given, temperature in ((None, 2), (3.0, 3)):
        assert ramp(values(0), values(1), labels(), temperature=given).item() == pytest.approx(
            build({"kind": "kd", "temperature": temperature})(values(0), values(1), labels()).item()
        )


def test_class_weights_in_a_term() -> None:
    even = build({"kind": "ce"})(values(0), None, labels())
    for kind in ("ce", "ohem", "focal"):
        loss = build({"kind": kind, "class_weights": [0, 0, 1]})
        only = labels().masked_fill(labels() != 2, 255)
        assert loss(values(0), None, only).item() == pytest.approx(
            build({"kind": kind})(values(0), None, only).item(), abs=1e-6
        )
        nothing = labels().masked_fill(labels() == 2, 255)
        assert loss(values(0), None, nothing).item() == 0
    assert build({"kind": "ce", "class_weights": [1, 1, 1]})(
        values(0), None, labels()
    ).item() == pytest.approx(even.item(), abs=1e-9)
    with pytest.raises(SpecError, match="statistics"):
        build({"kind": "ce", "class_weights": "raw_inverse"})


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


def test_class_weights_by_their_definitions() -> None:
    pixels = (600, 300, 100)
    inverse = torch.tensor([1 / 0.6, 1 / 0.3, 1 / 0.1])
    assert class_weights("raw_inverse", pixels).tolist() == pytest.approx(
        (inverse / inverse.mean()).tolist(), rel=1e-6
    )
    assert class_weights("raw_median", pixels).tolist() == pytest.approx([0.5, 1, 3], rel=1e-6)
    effective = torch.tensor([(1 - 0.99) / (1 - 0.99**n) for n in pixels])
    assert class_weights("raw_effective", pixels, beta=0.99).tolist() == pytest.approx(
        (effective / effective.mean()).tolist(), rel=1e-5
    )


@pytest.mark.parametrize("kind", ["raw_inverse", "raw_inverse_sqrt", "raw_effective", "raw_median"])
@pytest.mark.parametrize("pixels", [(10**12, 1, 0), (0, 0), (1, 0), (7,)])
def test_class_weights_stay_in_their_bounds(kind: str, pixels: tuple[int, ...]) -> None:
    weights = class_weights(kind, pixels)
    assert weights.shape == (len(pixels),)
    assert ((weights >= 0.1) & (weights <= 10)).all()

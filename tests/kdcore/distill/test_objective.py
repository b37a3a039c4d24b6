"""The sum of terms on real networks: what it sees, what it owns and what it refuses."""

from typing import Any, get_args

import pytest
import torch
from pydantic import TypeAdapter, ValidationError

from kdcore.data.batches import Batch
from kdcore.distill.objective import Objective
from kdcore.distill.teachers import Teacher
from kdcore.errors import SpecError
from kdcore.models.network import SegmentationModel
from kdcore.spec.objective import Ensemble, Term

TERM: TypeAdapter[Term] = TypeAdapter(Term)
KINDS = [model.model_fields["kind"].default for model in get_args(get_args(Term)[0])]


def objective(
    student: SegmentationModel,
    teachers: list[Teacher],
    *terms: dict[str, Any],
    kind: str = "logit_mean",
    min_confidence: float | None = None,
) -> Objective:
    return Objective(
        [TERM.validate_python(term) for term in terms],
        student,
        teachers,
        ensemble_spec=Ensemble.model_validate({"kind": kind}),
        steps=10,
        class_pixels=(10, 20, 30),
        min_confidence=min_confidence,
    )


def batch(labelled: int = 2) -> Batch:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (3, 3, 64, 64), generator=generator, dtype=torch.uint8)
    labels = torch.arange(64).div(22, rounding_mode="floor").expand(3, 64, 64).clone()
    labels[:, :4] = 255
    labels[labelled:] = 0
    return Batch(images, labels, labelled)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_on_real_networks(
    kind: str, student: SegmentationModel, teachers: list[Teacher]
) -> None:
    before = {name: value.clone() for name, value in student.state_dict().items()}
    whole = objective(student, teachers, {"kind": kind})
    student.zero_grad()
    total = whole(student, batch(), 0)
    assert torch.isfinite(total.loss)
    assert total.loss.item() > 0
    total.loss.backward()
    assert any(p.grad is not None and bool(p.grad.any()) for p in student.parameters())
    assert all(p.grad is not None for p in whole.parameters())
    assert all(torch.equal(before[name], value) for name, value in student.state_dict().items())


@pytest.mark.parametrize("kind", ["dkd", "ofa", "boundary", "ifvd"])
def test_terms_of_classes_do_not_see_images_without_masks(
    kind: str, student: SegmentationModel, teachers: list[Teacher]
) -> None:
    whole = objective(student, teachers, {"kind": kind})
    full = batch()
    only = Batch(full.images_NCHW[:2], full.labels_NHW[:2], 2)
    assert whole(student, full, 0).loss.item() == pytest.approx(
        whole(student, only, 0).loss.item(), rel=1e-5
    )


def test_response_terms_see_images_without_masks(
    student: SegmentationModel, teachers: list[Teacher]
) -> None:
    whole = objective(student, teachers, {"kind": "kd"})
    full = batch()
    only = Batch(full.images_NCHW[:2], full.labels_NHW[:2], 2)
    assert whole(student, full, 0).loss.item() != pytest.approx(
        whole(student, only, 0).loss.item(), rel=1e-5
    )


def test_confidence_is_equal_on_images_without_masks(
    student: SegmentationModel, teachers: list[Teacher]
) -> None:
    """The pool's labels are 0 everywhere; they must not speak for the teacher that says class 0."""
    pool = batch(labelled=1)
    as_confidence = objective(student, teachers, {"kind": "kd"}, kind="confidence")
    of_confidence = as_confidence(student, pool, 0).loss
    as_if_ignored = pool.labels_NHW.clone()
    as_if_ignored[0] = 255
    nobody_knows = Batch(pool.images_NCHW, as_if_ignored, 1)
    as_mean = objective(student, teachers, {"kind": "kd"}, kind="prob_mean")
    assert as_confidence(student, nobody_knows, 0).loss.item() == pytest.approx(
        as_mean(student, nobody_knows, 0).loss.item(), rel=1e-6
    )
    assert of_confidence.item() != pytest.approx(as_mean(student, pool, 0).loss.item(), rel=1e-6)


@pytest.mark.parametrize("kind", ["logit_mean", "prob_mean", "confidence", "entropy", "class_iou"])
def test_every_ensemble(kind: str, student: SegmentationModel, teachers: list[Teacher]) -> None:
    assert torch.isfinite(
        objective(student, teachers, {"kind": "kd"}, kind=kind)(student, batch(), 0).loss
    )


def test_class_iou_needs_teachers_that_were_measured(
    student: SegmentationModel, teachers: list[Teacher]
) -> None:
    silent = teachers[1].card.model_copy(update={"metrics": {}})
    unknown = Teacher("two", 1.0, teachers[1].model, silent)
    with pytest.raises(SpecError) as caught:
        objective(student, [teachers[0], unknown], {"kind": "kd"}, kind="class_iou")
    assert caught.value.field == "teachers.1.model"


@pytest.mark.parametrize("kind", ["ce", "ohem", "focal", "kd", "ofa"])
def test_heads_are_trained_beside_the_student(
    kind: str, student: SegmentationModel, teachers: list[Teacher]
) -> None:
    plain = objective(student, teachers, {"kind": kind})
    assert not list(plain.parameters())
    headed = objective(
        student, teachers, {"kind": kind, "heads": ["stride8", "stride16"], "head_weight": 0.5}
    )
    assert sorted(headed.heads) == [f"{kind}-stride16", f"{kind}-stride8"]
    value = headed(student, batch(), 0).loss
    assert value.item() > plain(student, batch(), 0).loss.item()
    value.backward()
    assert all(p.grad is not None and bool(p.grad.any()) for p in headed.parameters())
    silent = objective(student, teachers, {"kind": kind, "heads": "auto", "head_weight": 0})
    assert len(silent.heads) == 4
    assert silent(student, batch(), 0).loss.item() == pytest.approx(
        plain(student, batch(), 0).loss.item(), rel=1e-6
    )


def test_an_unknown_stage_is_named(student: SegmentationModel, teachers: list[Teacher]) -> None:
    with pytest.raises(SpecError) as caught:
        objective(student, teachers, {"kind": "ce"}, {"kind": "ofa", "heads": ["stride3"]})
    assert caught.value.field == "objective.1.heads"
    assert "stride16" in str(caught.value.remedy)


def test_a_head_on_a_stage_by_its_own_name(
    student: SegmentationModel, teachers: list[Teacher]
) -> None:
    by_name, by_stride = (
        objective(student, teachers, {"kind": "ce", "heads": [stage]})
        for stage in ("stage3", "stride8")
    )
    assert list(by_name.heads) == ["ce-stage3"]
    by_name.heads["ce-stage3"].load_state_dict(by_stride.heads["ce-stride8"].state_dict())
    values = [each(student, batch(), 0).loss.item() for each in (by_name, by_stride)]
    assert values[0] == pytest.approx(values[1], rel=1e-6)


def test_class_weights_reach_every_term_that_has_them(
    student: SegmentationModel, teachers: list[Teacher]
) -> None:
    for kind in ("ce", "ohem", "focal"):
        weighted = {"kind": kind, "class_weights": "raw_inverse"}
        values = [objective(student, [], term)(student, batch(), 0).loss.item()
                  for term in ({"kind": kind}, weighted)]  # fmt: skip
        assert values[0] != pytest.approx(values[1], rel=1e-6)
    with pytest.raises(SpecError, match="2 class weights for 3 classes"):
        objective(student, [], {"kind": "focal", "class_weights": [1, 2]})


@pytest.mark.parametrize("kind", ["kd", "cwd", "dkd", "cirkd"])
def test_a_temperature_may_be_a_ramp(
    kind: str, student: SegmentationModel, teachers: list[Teacher]
) -> None:
    ramp = {"from": 1, "to": 4, "over": [0, 0.5]}
    whole = objective(student, teachers, {"kind": kind, "temperature": ramp}, kind="prob_mean")
    for step, temperature in ((0, 1.0), (9, 4.0)):
        fixed = {"kind": kind, "temperature": temperature}
        expected = objective(student, teachers, fixed, kind="prob_mean")(student, batch(), step)
        assert whole(student, batch(), step).loss.item() == pytest.approx(expected.loss.item())


def test_a_temperature_stays_above_zero() -> None:
    with pytest.raises(ValidationError, match="above 0"):
        TERM.validate_python({"kind": "kd", "temperature": {"from": 1, "to": 0}})

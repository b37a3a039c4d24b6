"""The losses against published values, in float64, and the traps that other code falls into."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from kdcore.distill import ensemble, teacher_weights
from kdcore.losses import build

N, C, H, W = 2, 4, 6, 8


def wave(channels: int, a: float, b: float) -> Tensor:
    k = torch.arange(N * channels * H * W, dtype=torch.float64)
    return (2 * torch.sin(a * k + b)).reshape(N, channels, H, W)


STUDENT, TEACHER, TEACHER_2 = wave(C, 0.37, 0), wave(C, 0.21, 1), wave(C, 0.11, 0.4)
STUDENT_FEATURES, TEACHER_FEATURES = wave(5, 0.29, 0.5), wave(5, 0.43, 0.2)
LABELS = ((7 * torch.arange(N * H * W)) % 4).reshape(N, H, W)
FIRST_ROW_IGNORED = LABELS.clone()
FIRST_ROW_IGNORED[:, 0] = 255


@pytest.mark.parametrize(
    ("term", "labels", "expected"),
    [
        ({"kind": "kd", "temperature": 1}, LABELS, 1.2038882444),
        ({"kind": "kd", "temperature": 4}, LABELS, 1.6945158799),
        ({"kind": "kd", "temperature": 2}, FIRST_ROW_IGNORED, 1.6128023152),
        ({"kind": "cwd", "temperature": 1}, LABELS, 1.3307835731),
        ({"kind": "cwd", "temperature": 4}, LABELS, 1.8906369999),
        ({"kind": "dist"}, LABELS, 1.9456366321),
        ({"kind": "dist", "temperature": 2}, LABELS, 7.7986012204),
        ({"kind": "dkd"}, LABELS, 3.5479084608),
        ({"kind": "dkd", "alpha": 1, "beta": 0}, LABELS, 0.5848452894),
        ({"kind": "dkd", "alpha": 0, "beta": 1}, LABELS, 1.4815315857),
        ({"kind": "logit_std"}, LABELS, 0.6990646265),
        ({"kind": "ofa"}, LABELS, 2.0376413290),
        ({"kind": "ofa", "eps": 1.5}, LABELS, 1.9364853643),
        ({"kind": "cgd", "group": 2}, LABELS, 0.4407805109),
        ({"kind": "cgd", "group": 1, "temperature": 1}, LABELS, 1.3307835731),
    ],
)
def test_logit_losses(term: dict[str, object], labels: Tensor, expected: float) -> None:
    assert build(term)(STUDENT, TEACHER, labels).item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("term", "labels", "expected"),
    [
        ({"kind": "pkd"}, LABELS, 0.9954845387),
        ({"kind": "at"}, LABELS, 1.771679e-4),
        ({"kind": "skd"}, LABELS, 0.0356446792),
        ({"kind": "skd", "scale": 0.5}, LABELS, 1.88964e-5),
        ({"kind": "ifvd"}, LABELS, 0.9517664618),
        ({"kind": "ifvd"}, FIRST_ROW_IGNORED, 0.9306020710),
        ({"kind": "cirkd"}, LABELS, 9.3924104578),
    ],
)
def test_feature_losses(term: dict[str, object], labels: Tensor, expected: float) -> None:
    value = build(term)(STUDENT_FEATURES, TEACHER_FEATURES, labels).item()
    assert value == pytest.approx(expected, abs=1e-6)
    assert value == pytest.approx(expected, rel=1e-5)


def test_cross_entropy_and_dice_against_their_definitions() -> None:
    logits, labels = STUDENT, FIRST_ROW_IGNORED
    probabilities = logits.softmax(1).movedim(1, -1)[labels != 255]
    truth = F.one_hot(labels[labels != 255], C)
    expected_ce = -(probabilities.log() * truth).sum(1).mean()
    assert build({"kind": "ce"})(logits, None, labels).item() == pytest.approx(
        expected_ce.item(), abs=1e-9
    )
    ratio = (2 * (probabilities * truth).sum(0) + 1) / ((probabilities + truth).sum(0) + 1)
    assert build({"kind": "dice"})(logits, None, labels).item() == pytest.approx(
        1 - ratio.mean().item(), abs=1e-9
    )


@pytest.mark.parametrize(
    ("kind", "expected"), [("logit_mean", 1.2387767486), ("prob_mean", 1.1922944118)]
)
def test_ensembles(kind: str, expected: float) -> None:
    combined = ensemble(kind, [TEACHER, TEACHER_2], temperature=2.0)
    value = build({"kind": "kd", "temperature": 2})(STUDENT, combined, LABELS)
    assert value.item() == pytest.approx(expected, abs=1e-6)


def test_confidence_of_two_teachers() -> None:
    """The weights, Σ w·KL, and that distilling the mixture has the gradient of that sum."""
    weights = teacher_weights("confidence", [TEACHER, TEACHER_2], LABELS)
    assert weights[0].mean().item() == pytest.approx(0.4679023593, abs=1e-6)
    student = STUDENT.clone().requires_grad_()
    divergences = torch.stack(
        [
            (teacher.softmax(1) * (teacher.log_softmax(1) - student.log_softmax(1))).sum(1)
            for teacher in (TEACHER, TEACHER_2)
        ]
    )
    weighted = (weights[:, :, 0] * divergences).sum(0).mean()
    assert weighted.item() == pytest.approx(1.1663654964, abs=1e-6)
    (expected,) = torch.autograd.grad(weighted, student)
    mixture = ensemble("confidence", [TEACHER, TEACHER_2], LABELS)
    (ours,) = torch.autograd.grad(build({"kind": "kd"})(student, mixture, LABELS), student)
    assert torch.allclose(ours, expected, atol=1e-12)


@pytest.mark.parametrize(
    ("term", "expected"),
    [
        ({"kind": "kd", "temperature": 4}, 0.0935696583),
        ({"kind": "cwd", "temperature": 4}, 0.0984451531),
        ({"kind": "dist"}, 0.0990266739),
    ],
)
def test_gradient_norms(term: dict[str, object], expected: float) -> None:
    student = STUDENT.clone().requires_grad_()
    build(term)(student, TEACHER, LABELS).backward()
    assert student.grad is not None
    assert student.grad.norm().item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.filterwarnings("ignore:reduction. 'mean' divides the total loss:UserWarning")
@pytest.mark.parametrize(
    ("reduction", "trap"), [("mean", 0.3009720611), ("batchmean", 57.7866357327)]
)
def test_torch_reductions_on_nchw_are_not_what_we_return(reduction: str, trap: float) -> None:
    log_student, teacher = STUDENT.log_softmax(1), TEACHER.softmax(1)
    assert F.kl_div(log_student, teacher, reduction=reduction).item() == pytest.approx(
        trap, abs=1e-6
    )
    ours = build({"kind": "kd", "temperature": 1})(STUDENT, TEACHER, LABELS).item()
    assert abs(ours - trap) > 0.1


def test_masking_is_not_zeroing_the_divergence_of_ignored_pixels() -> None:
    """Trap: masked pixels set to 0 but still counted in the mean."""
    valid = FIRST_ROW_IGNORED != 255
    log_student, log_teacher = (x.div(2).log_softmax(1) for x in (STUDENT, TEACHER))
    divergence = (log_teacher.exp() * (log_teacher - log_student)).sum(1) * 4
    trap = (divergence * valid).mean().item()
    ours = build({"kind": "kd", "temperature": 2})(STUDENT, TEACHER, FIRST_ROW_IGNORED).item()
    assert abs(ours - trap) > 0.1
    assert ours == pytest.approx(divergence[valid].mean().item(), abs=1e-9)


def test_cwd_is_not_a_softmax_over_classes() -> None:
    log_student, log_teacher = (x.div(4).log_softmax(1) for x in (STUDENT, TEACHER))
    trap = (log_teacher.exp() * (log_teacher - log_student)).sum() * 16 / (N * C)
    ours = build({"kind": "cwd", "temperature": 4})(STUDENT, TEACHER, LABELS)
    assert abs(ours.item() - trap.item()) > 0.1


def test_pkd_is_not_the_mse_of_raw_features() -> None:
    trap = F.mse_loss(STUDENT_FEATURES, TEACHER_FEATURES).item() / 2
    ours = build({"kind": "pkd"})(STUDENT_FEATURES, TEACHER_FEATURES, LABELS).item()
    assert abs(ours - trap) > 0.1


def test_dist_is_not_what_nchw_gives_the_authors_code() -> None:
    def correlation(a: Tensor, b: Tensor) -> Tensor:
        a, b = a - a.mean(1, keepdim=True), b - b.mean(1, keepdim=True)
        return ((a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1) + 1e-8)).mean()

    student, teacher = STUDENT.softmax(1), TEACHER.softmax(1)
    trap = (1 - correlation(student, teacher)) + (
        1 - correlation(student.transpose(0, 1), teacher.transpose(0, 1))
    )
    assert trap.item() == pytest.approx(1.9861813557, abs=1e-6)
    ours = build({"kind": "dist"})(STUDENT, TEACHER, LABELS).item()
    assert abs(ours - trap.item()) > 0.01


def test_logit_std_is_not_over_the_last_dimension() -> None:
    def standardised(x: Tensor) -> Tensor:
        return (x - x.mean(-1, keepdim=True)) / (x.std(-1, keepdim=True) + 1e-7) / 2

    log_student, log_teacher = (standardised(x).log_softmax(1) for x in (STUDENT, TEACHER))
    trap = 4 * (log_teacher.exp() * (log_teacher - log_student)).sum(1).mean().item()
    ours = build({"kind": "logit_std"})(STUDENT, TEACHER, LABELS).item()
    assert abs(ours - trap) > 0.005


def test_cgd_has_no_squared_temperature() -> None:
    ours = build({"kind": "cgd", "group": 1, "temperature": 2})(STUDENT, TEACHER, LABELS)
    squared = build({"kind": "cwd", "temperature": 2})(STUDENT, TEACHER, LABELS)
    assert squared.item() == pytest.approx(4 * ours.item(), abs=1e-9)


def test_the_two_means_of_an_ensemble_differ() -> None:
    teachers = [TEACHER, TEACHER_2]
    of_logits, of_probabilities = (ensemble(k, teachers) for k in ("logit_mean", "prob_mean"))
    assert (of_logits.softmax(1) - of_probabilities.softmax(1)).abs().max() > 0.05


def test_a_clamp_changes_the_value_and_kills_gradients() -> None:
    student = (10 * STUDENT).requires_grad_()
    clamped = build({"kind": "kd", "clamp": 5})(student, TEACHER, LABELS)
    expected = build({"kind": "kd"})(student.detach().clamp(-5, 5), TEACHER, LABELS)
    assert clamped.item() == pytest.approx(expected.item(), abs=1e-9)
    clamped.backward()
    assert student.grad is not None
    assert student.grad[student.detach().abs() > 5].abs().max() == 0

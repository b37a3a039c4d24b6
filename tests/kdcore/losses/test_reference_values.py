"""The losses against published values, in float64, and the traps that other code falls into."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from kdcore.distill.ensemble import ensemble
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
    ],
)
def test_logit_losses(term: dict[str, object], labels: Tensor, expected: float) -> None:
    assert build(term)(STUDENT, TEACHER, labels).item() == pytest.approx(expected, abs=1e-6)


def test_pkd() -> None:
    value = build({"kind": "pkd"})(STUDENT_FEATURES, TEACHER_FEATURES, LABELS)
    assert value.item() == pytest.approx(0.9954845387, abs=1e-6)


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


@pytest.mark.parametrize(
    ("term", "expected"),
    [
        ({"kind": "kd", "temperature": 4}, 0.0935696583),
        ({"kind": "cwd", "temperature": 4}, 0.0984451531),
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

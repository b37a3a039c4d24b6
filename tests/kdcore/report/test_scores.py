"""Scores against values worked out by hand."""

import numpy as np
import pytest

from kdcore.report.scores import mean_iou, score


def test_scores_of_a_hand_made_confusion() -> None:
    scores = score(np.array([[50, 10], [5, 35]]))
    assert scores.iou == pytest.approx((50 / 65, 35 / 50))
    assert scores.dice == pytest.approx((100 / 115, 70 / 85))
    assert scores.precision == pytest.approx((50 / 55, 35 / 45))
    assert scores.recall == pytest.approx((50 / 60, 35 / 40))
    assert scores.miou == pytest.approx((50 / 65 + 35 / 50) / 2)
    assert scores.pixel_accuracy == pytest.approx(85 / 100)


def test_a_class_in_neither_truth_nor_prediction_is_left_out() -> None:
    scores = score(np.array([[8, 2, 0], [0, 10, 0], [0, 0, 0]]))
    assert scores.iou[2] is None
    assert scores.dice[2] is None
    assert scores.precision[2] is None
    assert scores.recall[2] is None
    assert scores.miou == pytest.approx((8 / 10 + 10 / 12) / 2)


def test_a_missed_class_and_an_invented_class_score_zero() -> None:
    missed = score(np.array([[10, 0], [4, 0]]))
    invented = score(np.array([[10, 4], [0, 0]]))
    for scores in (missed, invented):
        assert scores.iou[1] == 0
        assert scores.dice[1] == 0
        assert scores.precision[1] == 0
        assert scores.recall[1] == 0
        assert scores.miou == pytest.approx(10 / 14 / 2)


def test_mean_iou_is_exact_beyond_32_bits() -> None:
    assert mean_iou(np.diag([2**40, 2**40 + 1])) == 1.0


@pytest.mark.parametrize(
    ("confusion", "message"),
    [
        (np.zeros((2, 2)), "no pixel"),
        (np.ones((2, 3)), "square"),
        (np.array([[1, -1], [0, 1]]), "negative"),
    ],
)
def test_refused(confusion: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        score(confusion)

"""The interval of the gain: symmetric, paired, and as wide as it has to be."""

import time

import numpy as np
import pytest
from numpy.typing import NDArray

from kdcore.report.bootstrap import paired_delta, student_t

from .worlds import confusions, wobble


def _stack(*levels: float, start: int = 0) -> NDArray[np.int64]:
    return np.stack([confusions(wobble(level, start + i)) for i, level in enumerate(levels)])


def _rng() -> np.random.Generator:
    return np.random.default_rng(7)


def test_swapping_the_models_negates_everything() -> None:
    before, after = _stack(0.7, 0.72), _stack(0.8, 0.83, start=10)
    forward = paired_delta(before, after, rng=_rng())
    backward = paired_delta(after, before, rng=_rng())
    for one, other in zip(
        (forward.miou, *forward.per_class), (backward.miou, *backward.per_class), strict=True
    ):
        assert one is not None
        assert other is not None
        assert one.estimate == pytest.approx(-other.estimate)
        assert one.low == pytest.approx(-other.high)  # type: ignore[operator]
        assert one.high == pytest.approx(-other.low)  # type: ignore[operator]


def test_identical_models_have_a_zero_interval() -> None:
    models = _stack(0.7, 0.75, 0.8)
    delta = paired_delta(models, models, rng=_rng())
    assert (delta.miou.estimate, delta.miou.low, delta.miou.high) == (0, 0, 0)


def test_pairing_removes_what_both_models_share() -> None:
    """Images differ a lot, the gain does not: the interval must not see the images' spread."""
    hard_and_easy = np.linspace(0.3, 0.9, 12)
    delta = paired_delta(
        confusions(hard_and_easy)[None], confusions(hard_and_easy + 0.05)[None], rng=_rng()
    )
    alone = paired_delta(
        confusions(hard_and_easy)[None], confusions(hard_and_easy[::-1])[None], rng=_rng()
    )
    assert _width(delta.miou) < _width(alone.miou) / 5


def test_the_estimate_is_the_difference_of_the_means() -> None:
    before, after = _stack(0.7, 0.72), _stack(0.8, 0.83, start=10)
    delta = paired_delta(before, after, rng=_rng())
    recall = [
        after[s, :, 1, 1].sum() / (after[s].sum(0)[1].sum() + after[s].sum(0)[0, 1]) for s in (0, 1)
    ]
    earlier = [
        before[s, :, 1, 1].sum() / (before[s].sum(0)[1].sum() + before[s].sum(0)[0, 1])
        for s in (0, 1)
    ]
    nucleus = delta.per_class[1]
    assert nucleus is not None
    assert nucleus.estimate == pytest.approx(np.mean(recall) - np.mean(earlier))


def test_seeds_that_disagree_widen_the_interval() -> None:
    base = _stack(0.7, 0.7, 0.7)
    agreeing = paired_delta(base, _stack(0.8, 0.8, 0.8, start=10), rng=_rng())
    disagreeing = paired_delta(base, _stack(0.7, 0.8, 0.9, start=10), rng=_rng())
    assert _width(disagreeing.miou) > 3 * _width(agreeing.miou)
    assert disagreeing.seed_share is not None
    assert disagreeing.seed_share > 0.9


def test_one_pair_draws_images_only() -> None:
    delta = paired_delta(_stack(0.7), _stack(0.8, start=10), rng=_rng())
    assert delta.seed_share is None
    assert _width(delta.miou) > 0


def test_a_class_absent_everywhere_and_a_class_in_one_image() -> None:
    before, after = _stack(0.7, 0.7), _stack(0.8, 0.8, start=10)
    for models in (before, after):
        models[:, :, 2] = 0
        models[:, :, :, 2] = 0
        models[:, 1:, 1] = 0
        models[:, 1:, :, 1] = 0
    delta = paired_delta(before, after, rng=_rng())
    assert delta.per_class[2] is None
    lone = delta.per_class[1]
    assert lone is not None
    assert (lone.low, lone.high) == (None, None)


def test_one_image_has_no_interval() -> None:
    delta = paired_delta(confusions(0.7, 1)[None], confusions(0.8, 1)[None], rng=_rng())
    assert delta.miou.estimate > 0
    assert (delta.miou.low, delta.miou.high) == (None, None)


@pytest.mark.parametrize(("pairs", "seed_spread"), [(1, 0.0), (3, 0.03), (5, 0.01)])
def test_the_interval_covers_the_truth_as_often_as_it_says(pairs: int, seed_spread: float) -> None:
    """200 worlds with a known gain; 95 % ± sampling error, and not 75 % for three seeds."""
    rng = np.random.default_rng(11)
    gain = 0.03

    def world(images: int, seeds: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        difficulty = rng.normal(0.8, 0.05, images)
        own_gain = gain + rng.normal(0, 0.02, images)
        return tuple(  # type: ignore[return-value]
            np.stack(
                [
                    _two_classes(difficulty + extra + rng.normal(0, seed_spread))
                    for _ in range(seeds)
                ]
            )
            for extra in (0 * own_gain, own_gain)
        )

    before, after = world(2000, 60)
    truth = paired_delta(before, after, rng=rng, replicates=2).miou.estimate
    covered = 0
    for _ in range(200):
        interval = paired_delta(*world(24, pairs), rng=rng, replicates=300).miou
        assert interval.low is not None
        assert interval.high is not None
        covered += interval.low <= truth <= interval.high
    assert covered / 200 >= 0.89


def test_large_splits_are_fast() -> None:
    counts = np.random.default_rng(0).integers(0, 1000, (3, 500, 20, 20))
    began = time.process_time()
    paired_delta(counts, counts[::-1], rng=_rng())
    assert time.process_time() - began < 2


@pytest.mark.parametrize(
    ("df", "quantile"),
    [(1, 12.7062), (2, 4.30265), (3, 3.18245), (10, 2.22814), (31, 2.03951), (1e9, 1.95996)],
)
def test_student_t(df: float, quantile: float) -> None:
    assert student_t(0.975, df) == pytest.approx(quantile, rel=1e-4)


def _two_classes(accuracy: NDArray[np.float64]) -> NDArray[np.float64]:
    kept = np.clip(accuracy, 0.02, 0.99)
    result = np.empty((len(kept), 2, 2))
    result[:, 1, 1], result[:, 1, 0] = 1000 * kept, 1000 * (1 - kept)
    result[:, 0, 0], result[:, 0, 1] = 3000 + 500 * kept, 500 * (1 - kept)
    return result


def _width(interval: object) -> float:
    low, high = interval.low, interval.high  # type: ignore[attr-defined]
    return float(high - low)

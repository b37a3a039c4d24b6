"""Every answer, its sentence, its notes, and the JSON that others read."""

import json
from dataclasses import replace

import numpy as np
import pytest

from kdcore.report.render import to_html, to_markdown
from kdcore.report.verdict import Measured, Verdict, judge

from .worlds import CLASSES, PAIR, confusions, measured, wobble


def _judge(*contestants: Measured, **options: object) -> Verdict:
    rng = np.random.default_rng(0)
    return judge(contestants, classes=CLASSES, split="test", rng=rng, **options)  # type: ignore[arg-type]


def _trio(gain: float, *, seeds: int = 3, teacher: float = 0.92) -> tuple[Measured, ...]:
    pairs = [
        measured(role, wobble(0.7 + extra, 10 * seed), seed=seed)
        for seed in range(seeds)
        for role, extra in zip(PAIR, (0.0, gain), strict=True)
    ]
    return (measured("teacher", teacher, name="big"), *pairs)


def test_better() -> None:
    verdict = _judge(*_trio(0.1))
    assert verdict.verdict == "better"
    assert verdict.delta is not None
    assert verdict.delta.low is not None
    assert 0 < verdict.delta.low <= verdict.delta.miou
    assert verdict.sentence.startswith("Better: the distilled student gains ")
    assert "3 seeds, 12 test images" in verdict.sentence
    assert f"recovers {100 * (verdict.gap_recovered or 0):.0f} % of the gap" in verdict.sentence


def test_worse() -> None:
    verdict = _judge(*_trio(-0.1))
    assert verdict.verdict == "worse"
    assert verdict.sentence.startswith("Worse: the distilled student loses ")
    assert "\N{MINUS SIGN}" in verdict.sentence
    assert "recovers" not in verdict.sentence


def test_identical_models_are_no_better() -> None:
    verdict = _judge(*_trio(0.0))
    assert verdict.verdict == "no_better"
    assert verdict.delta is not None
    assert (verdict.delta.miou, verdict.delta.low, verdict.delta.high) == (0, 0, 0)
    assert "by 0.0 mIoU points" in verdict.sentence


def test_seeds_that_disagree_are_not_enough_evidence() -> None:
    contestants = [
        measured("baseline", 0.7, seed=0),
        measured("baseline", 0.7, seed=1),
        measured("distilled", 0.65, seed=0),
        measured("distilled", 0.8, seed=1),
    ]
    verdict = _judge(*contestants)
    assert verdict.verdict == "not_enough_evidence"
    assert any("more seeds" in note for note in verdict.notes)


def test_the_margin_separates_no_better_from_not_enough_evidence() -> None:
    contestants = (
        measured("baseline", wobble(0.7, 1), seed=0),
        measured("distilled", wobble(0.7, 2), seed=0),
    )
    assert _judge(*contestants, margin=0.2).verdict == "no_better"
    assert _judge(*contestants, margin=1e-6).verdict == "not_enough_evidence"


def test_gap_recovered() -> None:
    verdict = _judge(*_trio(0.1), measured("teacher", 0.8, name="small"))
    rows = {row.name: row.miou for row in verdict.contestants}
    summary = verdict.summary
    expected = (summary["distilled"].miou_mean - summary["baseline"].miou_mean) / (
        rows["big"] - summary["baseline"].miou_mean
    )
    assert verdict.gap_recovered == pytest.approx(expected)
    assert any("best of 2 teachers, big" in note for note in verdict.notes)


def test_a_teacher_that_is_no_better_recovers_nothing() -> None:
    verdict = _judge(*_trio(0.1, teacher=0.6))
    assert verdict.gap_recovered is None
    assert any("not clearly better" in note for note in verdict.notes)


def test_notes_on_the_pool_and_on_a_single_seed() -> None:
    verdict = _judge(*_trio(0.1, seeds=1), unlabelled_used=True)
    assert "images without masks" in verdict.notes[0]
    assert any("Only one seed" in note for note in verdict.notes)
    assert "1 seed, 12 test images" in verdict.sentence


def _with_pool(pool: float, gain: float = 0.1, seeds: int = 3) -> tuple[Measured, ...]:
    """`_trio`, and the students distilled without the pool, which brings ``pool`` of recall."""
    without = (
        measured("distilled_without_pool", wobble(0.7 + gain - pool, 10 * seed), seed=seed)
        for seed in range(seeds)
    )
    return (*_trio(gain, seeds=seeds), *without)


def test_the_pools_part_of_the_gain() -> None:
    verdict = _judge(*_with_pool(0.04), unlabelled_used=True)
    assert verdict.delta is not None
    assert verdict.pool_delta is not None
    assert verdict.pool_delta.low is not None
    rows = {role: summary.miou_mean for role, summary in verdict.summary.items()}
    part = rows["distilled"] - rows["distilled_without_pool"]
    assert verdict.pool_delta.miou == pytest.approx(part)
    assert 0 < verdict.pool_delta.low < verdict.pool_delta.miou < verdict.delta.miou
    assert f"the images without masks account for +{100 * part:.1f} points" in verdict.sentence
    rest = rows["distilled_without_pool"] - rows["baseline"]
    assert f"at +{100 * rest:.1f} mIoU points against the baseline" in verdict.notes[0]
    assert "each labelled image more often" in verdict.notes[1]


def test_the_rest_of_the_verdict_is_that_without_the_comparison() -> None:
    plain, compared = _judge(*_trio(0.1)), _judge(*_with_pool(0.04))
    assert compared.delta == plain.delta
    assert compared.verdict == plain.verdict
    assert compared.gap_recovered == plain.gap_recovered
    assert compared.sentence.startswith(plain.sentence.removesuffix("."))
    assert "pool_delta" not in plain.to_json()


@pytest.mark.parametrize(("gain", "word"), [(-0.1, "Worse"), (0.0, "No better"), (0.1, "Better")])
def test_a_pool_that_harms_is_said_to(gain: float, word: str) -> None:
    verdict = _judge(*_with_pool(-0.05, gain))
    assert verdict.sentence.startswith(word)
    assert "account for \N{MINUS SIGN}" in verdict.sentence
    assert verdict.sentence.count("points of the difference") == 1


def test_the_pools_part_without_a_baseline() -> None:
    verdict = _judge(*(one for one in _with_pool(0.04) if one.role != "baseline"))
    assert verdict.verdict is None
    assert verdict.pool_delta is not None
    assert "the student distilled without the pool reaches" in verdict.sentence
    assert "points of the distilled student's mIoU" in verdict.sentence
    assert "3 seeds" in verdict.sentence


def test_a_run_without_the_pool_and_without_a_partner() -> None:
    lone = measured("distilled_without_pool", 0.2, seed=9)
    verdict = _judge(*_with_pool(0.04), lone)
    assert verdict.pool_delta == _judge(*_with_pool(0.04)).pool_delta
    assert any("1 run without a partner" in note for note in verdict.notes)
    with pytest.raises(ValueError, match="more than one distilled_without_pool with seed 9"):
        _judge(*_with_pool(0.04), lone, lone)


def test_runs_without_a_partner_are_named_and_left_out() -> None:
    with_extra = _judge(*_trio(0.1), measured("distilled", 0.2, seed=9))
    assert with_extra.delta == _judge(*_trio(0.1)).delta
    assert any("1 run without a partner" in note for note in with_extra.notes)


def test_a_falling_class_is_named_although_the_mean_rises() -> None:
    before, after = confusions(wobble(0.7, 1)), confusions(wobble(0.9, 1))
    after[:, 2] = before[:, 2][:, [2, 1, 0]]
    pair = [
        Measured(role, role, 0, counts, 1, 1)
        for role, counts in zip(PAIR, (before, after), strict=True)
    ]
    verdict = _judge(*pair)
    assert verdict.verdict == "better"
    assert any(note.startswith("IoU falls for boundary") for note in verdict.notes)


def test_a_single_image_is_never_evidence() -> None:
    verdict = _judge(
        measured("baseline", 0.7, seed=0, images=1), measured("distilled", 0.9, seed=0, images=1)
    )
    assert verdict.verdict == "not_enough_evidence"
    assert "no interval from a single image" in verdict.sentence


def test_training_and_evaluation_have_no_pair() -> None:
    training = _judge(*[measured("model", wobble(0.7, s), seed=s) for s in range(3)])
    assert training.verdict is None
    assert training.delta is None
    assert training.summary["model"].seeds == 3
    assert "mean of 3" in training.sentence
    evaluation = _judge(
        measured("model", 0.7, name="models:/a/1"), measured("model", 0.8, name="models:/b/2")
    )
    assert evaluation.sentence.startswith("models:/b/2 has the highest mIoU of 2 models")
    assert evaluation.summary == {}


def test_no_baseline_gives_no_verdict() -> None:
    verdict = _judge(measured("teacher", 0.9), measured("distilled", 0.8, seed=0))
    assert verdict.verdict is None
    assert verdict.sentence.startswith("No verdict: ")


def test_json_shape() -> None:
    found = _judge(*_trio(0.1)).to_json()
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert set(found) == {
        "sentence", "verdict", "split", "images", "classes", "contestants", "summary", "delta",
        "gap_recovered", "notes",
    }  # fmt: skip
    assert set(found["contestants"][0]) == {
        "name", "role", "seed", "miou", "iou", "dice", "precision", "recall", "pixel_accuracy",
        "parameters", "flops", "size_bytes", "latency_ms",
    }  # fmt: skip
    assert set(found["contestants"][0]["latency_ms"]) == {
        "p50", "p99", "threads", "size", "device", "runtime", "precision", "batch", "runs",
    }  # fmt: skip
    assert set(found["summary"]["baseline"]) == {"miou_mean", "miou_std", "seeds"}
    assert set(found["delta"]) == {
        "miou", "low", "high", "confidence", "replicates", "per_class",
    }  # fmt: skip
    assert set(found["delta"]["per_class"][0]) == {"class", "delta", "low", "high"}
    assert Verdict.model_validate(found).to_json() == found
    compared = _judge(*_with_pool(0.04)).to_json()
    assert set(compared) == {*found, "pool_delta"}
    assert set(compared["pool_delta"]) == set(found["delta"])
    assert Verdict.model_validate(compared).to_json() == compared


def test_an_absent_class_is_null_in_json() -> None:
    pair = [measured(role, 0.7 + gain, seed=0) for role, gain in zip(PAIR, (0, 0.1), strict=True)]
    for one in pair:
        one.confusions[:, 1, 1] += one.confusions[:, 1, 2]
        one.confusions[:, 2] = 0
        one.confusions[:, :, 2] = 0
    found = _judge(*pair).to_json()
    assert found["contestants"][0]["iou"][2] is None
    assert found["delta"]["per_class"][2] == {
        "class": "boundary", "delta": None, "low": None, "high": None,
    }  # fmt: skip
    assert "No test image has boundary." in found["notes"]


def test_refused() -> None:
    other_masks = measured("distilled", 0.8, seed=0)
    other_masks.confusions[0, 0, 0] += 1
    with pytest.raises(ValueError, match="same masks"):
        _judge(measured("baseline", 0.7, seed=0), other_masks)
    with pytest.raises(ValueError, match="shape"):
        _judge(measured("baseline", 0.7, seed=0), measured("distilled", 0.7, seed=0, images=3))
    with pytest.raises(ValueError, match="more than one baseline with seed 0"):
        _judge(measured("baseline", 0.7, seed=0), measured("baseline", 0.8, seed=0))
    with pytest.raises(ValueError, match="nothing"):
        _judge()


def test_a_teacher_is_scored_on_the_classes_it_knows() -> None:
    """Unknown classes have no IoU, their pixels are no mistakes, and no gap is measured."""
    teacher, *pairs = _trio(0.1)
    whole = _judge(teacher, *pairs)
    counts = teacher.confusions.copy()
    counts[:, :, 1] += counts[:, :, 2]
    counts[:, :, 2] = 0
    verdict = _judge(replace(teacher, confusions=counts, known=(0, 1)), *pairs)
    row = verdict.contestants[0]
    total = counts.sum(axis=0)
    # Background gives its misses to the nucleus; the nucleus's own go to the boundary, merged here.
    assert row.iou == (
        pytest.approx(total[0, 0] / total[0].sum()),
        pytest.approx(total[1, 1] / (total[1].sum() + total[0, 1])),
        None,
    )
    assert row.miou == pytest.approx(sum(iou for iou in row.iou if iou is not None) / 2)
    assert whole.gap_recovered is not None
    assert verdict.gap_recovered is None
    assert "big does not know boundary" in " ".join(verdict.notes)
    assert verdict.delta == whole.delta
    assert "None" not in to_markdown(verdict)
    assert to_html(verdict, [])

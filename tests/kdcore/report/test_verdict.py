"""Every answer, its sentence, its notes, and the JSON that others read."""

import json

import numpy as np
import pytest

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

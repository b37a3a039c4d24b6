"""From an experiment to jobs: their order, their inputs, and identities that mean equal work."""

from typing import Any

from kdcore.spec import FitJob, FromModel, PlannedJob, experiment_adapter, job_adapter, plan
from tests.kdcore.spec.test_experiment import DISTILLATION, changed


def planned(
    document: dict[str, Any], *, data: str = "0", model: str = "1"
) -> dict[str, PlannedJob]:
    experiment = experiment_adapter.validate_python(document)
    jobs = plan(experiment, data * 64, lambda _: model * 64)
    return {job.key: job for job in jobs}


def test_jobs_of_a_distillation() -> None:
    jobs = planned(DISTILLATION)
    assert list(jobs) == [
        "teacher-deeplab",
        "baseline-0", "distilled-0",
        "baseline-1", "distilled-1",
        "baseline-2", "distilled-2",
        "verdict",
    ]  # fmt: skip
    assert jobs["distilled-1"].needs == ("teacher-deeplab",)
    assert jobs["distilled-1"].inputs["inputs/models/teacher-segformer"] == FromModel(
        "models:/segformer-b3@champion", "1" * 64
    )
    assert set(jobs["verdict"].needs) == set(jobs) - {"verdict"}
    assert jobs["teacher-deeplab"].role == "teacher"


def test_each_job_follows_what_it_needs() -> None:
    seen: set[str] = set()
    for key, job in planned(DISTILLATION).items():
        assert seen.issuperset(job.needs)
        seen.add(key)


def test_baseline_and_distilled_differ_in_what_the_teacher_brings_only() -> None:
    jobs = planned(DISTILLATION)
    baseline, distilled = jobs["baseline-1"].job, jobs["distilled-1"].job
    assert isinstance(baseline, FitJob)
    assert isinstance(distilled, FitJob)
    for same in ("dataset", "model", "train", "seed"):
        assert getattr(baseline, same) == getattr(distilled, same)
    assert baseline.teachers == ()
    assert baseline.unlabelled is None
    assert [teacher.weight for teacher in distilled.teachers] == [1.0, 0.5]


def test_resolved_specs_have_no_auto_left_and_survive_json() -> None:
    for job in planned(DISTILLATION).values():
        assert job_adapter.validate_python(job.job.to_json()) == job.job
        if isinstance(job.job, FitJob):
            assert job.job.train.evaluate_every == 10


def test_equal_work_has_an_equal_digest_in_whatever_experiment() -> None:
    mine = planned(DISTILLATION)
    theirs = planned({**changed("objective.2.temperature", 4), "name": "other"})
    same = {key for key in mine if mine[key].digest == theirs[key].digest}
    assert same == {"teacher-deeplab", "baseline-0", "baseline-1", "baseline-2"}


def test_what_changes_an_identity() -> None:
    mine = planned(DISTILLATION)
    other_data = planned(DISTILLATION, data="2")
    assert not {job.digest for job in mine.values()} & {job.digest for job in other_data.values()}
    other_teacher = planned(DISTILLATION, model="3")
    assert other_teacher["baseline-0"].digest == mine["baseline-0"].digest
    assert other_teacher["distilled-0"].digest != mine["distilled-0"].digest
    longer = planned(changed("teachers.0.train.train.steps", 101))
    assert longer["distilled-0"].digest != mine["distilled-0"].digest
    assert longer["verdict"].digest != mine["verdict"].digest


def test_training_and_evaluation() -> None:
    training = planned(
        {
            "kind": "training", "name": "plain", "dataset": "d", "seeds": [4, 5],
            "model": {"arch": "fpn", "encoder": "resnet18"}, "train": {"steps": 10},
        }
    )  # fmt: skip
    assert list(training) == ["model-4", "model-5", "verdict"]
    evaluation = planned(
        {"kind": "evaluation", "name": "look", "dataset": "d", "split": "val",
         "models": ["models:/a/1", "models:/b/2"]}
    )  # fmt: skip
    assert list(evaluation) == ["verdict"]
    assert evaluation["verdict"].job.split == "val"  # type: ignore[union-attr]
    assert evaluation["verdict"].needs == ()

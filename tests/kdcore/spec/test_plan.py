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


def test_a_network_that_starts_from_a_stored_model_has_it_as_an_input() -> None:
    start = {"arch": "unet", "encoder": "resnet18", "weights": "models:/big/3"}
    document = changed("student", {"model": start})
    job = planned(document)["baseline-0"]
    assert isinstance(job.job, FitJob)
    assert job.job.model.weights == "inputs/models/start/model.safetensors"
    assert job.inputs == {"inputs/models/start": FromModel("models:/big/3", "1" * 64)}
    assert job.digest != planned(document, model="2")["baseline-0"].digest


def test_the_baseline_sees_the_views_of_the_distilled_and_has_no_cache() -> None:
    document = changed("train", {**DISTILLATION["train"], "views": 4})
    document["objective"] = document["objective"][:3]
    jobs = planned({**document, "teacher_cache": {"dtype": "fp16"}})
    baseline, distilled = jobs["baseline-1"].job, jobs["distilled-1"].job
    assert isinstance(baseline, FitJob)
    assert isinstance(distilled, FitJob)
    assert baseline.train.views == distilled.train.views == 4
    assert baseline.teacher_cache is None
    assert distilled.teacher_cache is not None
    assert distilled.teacher_cache.dtype == "fp16"


def test_the_same_without_the_pool_beside_it() -> None:
    plain = planned(DISTILLATION)
    use = {"share": 0.5, "min_confidence": 0.9}
    jobs = planned(changed("unlabelled", {**use, "compare_without": True}))
    assert list(jobs)[1:5] == [
        "baseline-0",
        "distilled-0",
        "distilled-without-pool-0",
        "baseline-1",
    ]
    with_pool, without = jobs["distilled-1"], jobs["distilled-without-pool-1"]
    assert isinstance(with_pool.job, FitJob)
    assert isinstance(without.job, FitJob)
    assert with_pool.job.to_json()["unlabelled"] == use
    assert without.job == with_pool.job.model_copy(update={"unlabelled": None})
    assert (without.role, without.inputs) == ("distilled_without_pool", with_pool.inputs)
    shown = {each.name: each.role for each in jobs["verdict"].job.contestants}  # type: ignore[union-attr]
    assert shown["distilled-without-pool-2"] == "distilled_without_pool"
    assert set(jobs["verdict"].needs) == set(jobs) - {"verdict"}
    assert plain["verdict"].digest != jobs["verdict"].digest


def test_comparing_without_the_pool_repeats_no_work() -> None:
    compared = planned(changed("unlabelled", {"share": 0.5, "compare_without": True}))
    plain = planned(DISTILLATION)
    assert {job.digest for job in plain.values()} - {plain["verdict"].digest} < {
        job.digest for job in compared.values()
    }
    without = {key: value for key, value in DISTILLATION.items() if key != "unlabelled"}
    for seed in (0, 1, 2):
        assert (
            compared[f"distilled-without-pool-{seed}"].digest
            == planned(without)[f"distilled-{seed}"].digest
        )


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

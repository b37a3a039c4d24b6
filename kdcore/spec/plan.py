"""From an experiment to its jobs: a DAG whose every node has an identity of its own.

A job's digest is the sha256 of its spec, of what feeds it (dataset fingerprint, digests of stored
models, digests of the jobs that produce its inputs) and of the kdcore version. Equal digests are
equal work, in whatever experiment they stand.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from kdcore import __version__
from kdcore.spec.base import digest
from kdcore.spec.class_map import ClassNames
from kdcore.spec.experiment import (
    DistillationExperiment,
    EvaluationExperiment,
    Experiment,
    TeacherSpec,
    TrainingExperiment,
)
from kdcore.spec.job import CompareJob, Contestant, FitJob, Job, Role, TeacherInput
from kdcore.spec.rundir import MODEL_INPUTS, MODEL_WEIGHTS


@dataclass(frozen=True)
class FromJob:
    """The model folder that another job of the plan makes."""

    key: str


@dataclass(frozen=True)
class FromModel:
    """A model that exists already; ``digest`` is the sha256 that names its weights and card."""

    ref: str
    digest: str


Input = FromJob | FromModel


@dataclass(frozen=True)
class PlannedJob:
    """``inputs`` maps a run-directory path to where its model folder comes from."""

    key: str
    role: Role | None
    job: Job
    inputs: dict[str, Input]
    digest: str

    @property
    def needs(self) -> tuple[str, ...]:
        return tuple(source.key for source in self.inputs.values() if isinstance(source, FromJob))


def plan(
    experiment: Experiment, fingerprint: str, model_digest: Callable[[str], str]
) -> tuple[PlannedJob, ...]:
    """The jobs of ``experiment`` in an order in which each follows what it needs.

    ``fingerprint`` is the dataset's; ``model_digest`` turns a model reference into the digest of an
    existing model and raises what the caller wants to see when there is none.
    """
    planner = _Planner(fingerprint, model_digest)
    match experiment:
        case TrainingExperiment():
            planner.add_training(experiment)
        case DistillationExperiment():
            planner.add_distillation(experiment)
        case EvaluationExperiment():
            planner.add_evaluation(experiment)
    return tuple(planner.jobs.values())


class _Planner:
    def __init__(self, fingerprint: str, model_digest: Callable[[str], str]) -> None:
        self.fingerprint = fingerprint
        self.model_digest = model_digest
        self.jobs: dict[str, PlannedJob] = {}

    def add_training(self, experiment: TrainingExperiment) -> None:
        contestants: list[tuple[Contestant, Input]] = []
        for seed in experiment.seeds:
            job = FitJob(
                dataset=self.fingerprint,
                model=experiment.model,
                objective=experiment.objective,
                train=experiment.train.resolved(),
                seed=seed,
            )
            source = self._add(f"model-{seed}", "model", job, {})
            contestants.append(_contestant("model", f"model-{seed}", seed, source))
        self._add_comparison(contestants, experiment)

    def add_distillation(self, experiment: DistillationExperiment) -> None:
        teachers = {teacher.name: self._teacher(teacher) for teacher in experiment.teachers}
        contestants = [
            _contestant("teacher", teacher.name, None, teachers[teacher.name], teacher.classes)
            for teacher in experiment.teachers
        ]
        inputs = tuple(
            TeacherInput(
                name=teacher.name,
                path=f"{MODEL_INPUTS}/teacher-{teacher.name}",
                weight=teacher.weight,
                classes=teacher.classes,
            )
            for teacher in experiment.teachers
        )
        sources = {teacher.path: teachers[teacher.name] for teacher in inputs}
        for seed in experiment.seeds:
            plain = FitJob(
                dataset=self.fingerprint,
                model=experiment.student.model,
                objective=experiment.baseline_objective(),
                train=experiment.train.resolved(),
                seed=seed,
            )
            if experiment.baseline:
                source = self._add(f"baseline-{seed}", "baseline", plain, {})
                contestants.append(_contestant("baseline", f"baseline-{seed}", seed, source))
            distilled = plain.model_copy(
                update={
                    "objective": experiment.objective,
                    "teachers": inputs,
                    "ensemble": experiment.ensemble,
                    "unlabelled": experiment.unlabelled and experiment.unlabelled.use(),
                    "preflight": experiment.preflight,
                    "teacher_cache": experiment.teacher_cache,
                }
            )
            source = self._add(f"distilled-{seed}", "distilled", distilled, sources)
            contestants.append(_contestant("distilled", f"distilled-{seed}", seed, source))
            if experiment.unlabelled is not None and experiment.unlabelled.compare_without:
                # Equal to the student of the same experiment without `unlabelled`, digest included.
                alone = distilled.model_copy(update={"unlabelled": None})
                key = f"distilled-without-pool-{seed}"
                source = self._add(key, "distilled_without_pool", alone, sources)
                contestants.append(_contestant("distilled_without_pool", key, seed, source))
        self._add_comparison(contestants, experiment, experiment.unlabelled is not None)

    def add_evaluation(self, experiment: EvaluationExperiment) -> None:
        contestants = [
            (
                Contestant(role="model", name=ref, path=f"{MODEL_INPUTS}/model-{index}"),
                self._stored(ref),
            )
            for index, ref in enumerate(experiment.models)
        ]
        self._add_comparison(contestants, experiment, split=experiment.split)

    def _teacher(self, teacher: TeacherSpec) -> Input:
        if teacher.train is None:
            assert teacher.model is not None
            return self._stored(teacher.model)
        job = FitJob(
            dataset=self.fingerprint,
            model=teacher.train.model,
            objective=teacher.train.objective,
            train=teacher.train.train.resolved(),
            seed=teacher.train.seed,
        )
        return self._add(f"teacher-{teacher.name}", "teacher", job, {})

    def _stored(self, ref: str) -> FromModel:
        return FromModel(ref, self.model_digest(ref))

    def _add_comparison(
        self,
        contestants: Sequence[tuple[Contestant, Input]],
        experiment: Experiment,
        unlabelled_used: bool = False,
        split: str = "test",
    ) -> None:
        job = CompareJob.model_validate(
            {
                "dataset": self.fingerprint,
                "contestants": tuple(contestant for contestant, _ in contestants),
                "split": split,
                "latency": experiment.latency,
                "unlabelled_used": unlabelled_used,
            }
        )
        inputs = {contestant.path: source for contestant, source in contestants}
        self._add("verdict", None, job, inputs)

    def _add(self, key: str, role: Role | None, job: Job, inputs: dict[str, Input]) -> FromJob:
        if isinstance(job, FitJob) and job.model.starts_from_model:
            job, start = self._starting(job)
            inputs = {**inputs, **start}
        sources = {
            path: self.jobs[source.key].digest if isinstance(source, FromJob) else source.digest
            for path, source in inputs.items()
        }
        identity = digest({"job": job.to_json(), "inputs": sources, "kdcore": __version__})
        self.jobs[key] = PlannedJob(key, role, job, inputs, identity)
        return FromJob(key)

    def _starting(self, job: FitJob) -> tuple[FitJob, dict[str, Input]]:
        """``job`` with the weights that it starts from as one of its inputs."""
        ref, folder = str(job.model.weights), f"{MODEL_INPUTS}/start"
        weights = f"{folder}/{PurePosixPath(MODEL_WEIGHTS).name}"
        model = job.model.model_copy(update={"weights": weights})
        return job.model_copy(update={"model": model}), {folder: self._stored(ref)}


def _contestant(
    role: Role, name: str, seed: int | None, source: Input, classes: ClassNames | None = None
) -> tuple[Contestant, Input]:
    path = f"{MODEL_INPUTS}/{name if role != 'teacher' else f'teacher-{name}'}"
    return Contestant(role=role, name=name, seed=seed, path=path, classes=classes), source

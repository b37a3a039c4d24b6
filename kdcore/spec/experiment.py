"""What a user submits: one immutable experiment, which `kdcore.spec.plan` expands into jobs."""

from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, TypeAdapter, model_validator

from kdcore.spec.base import Name, Spec
from kdcore.spec.class_map import ClassNames
from kdcore.spec.model import ModelSpec
from kdcore.spec.objective import CrossEntropy, Ensemble, LabelTerms, Term, Terms
from kdcore.spec.teacher_cache import TeacherCache, check_replayable
from kdcore.spec.train import Size, TrainSpec

DatasetRef = Annotated[
    str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}(@(latest|[1-9][0-9]{0,8}))?$")
]
"""``name``, ``name@latest`` or ``name@3`` (a revision number)."""

ModelRef = Annotated[str, StringConstraints(min_length=1, max_length=1024)]
"""``models:/name/3``, ``models:/name@alias``, or for `kd run` a model folder."""

Seconds = Annotated[int, Field(ge=1, le=10 * 365 * 86_400)]

Seeds = Annotated[
    tuple[Annotated[int, Field(ge=0, le=2**31 - 1)], ...], Field(min_length=1, max_length=32)
]


class TeacherTraining(Spec):
    """Train the teacher first, as part of this experiment."""

    model: ModelSpec
    objective: LabelTerms = (CrossEntropy(),)
    train: TrainSpec
    seed: Annotated[int, Field(ge=0)] = 0


class TeacherSpec(Spec):
    """A teacher: trained here (`train`), or one that exists (`model`)."""

    name: Name
    train: TeacherTraining | None = None
    model: ModelRef | None = None
    weight: Annotated[float, Field(gt=0)] = Field(default=1.0, description="Share in the ensemble")
    classes: ClassNames | None = Field(
        default=None,
        description=(
            "Class of the dataset -> the teacher's class, several that make it up, or null where it "
            "knows none. Unlisted classes have the same name; the teacher's further ones are left "
            "out. Without this field both must have the same names"
        ),
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.train is None) == (self.model is None):
            raise ValueError("a teacher has either `train` or `model`")
        if self.train is not None and self.classes is not None:
            raise ValueError("classes: a teacher trained here knows the dataset's classes")
        return self


class StudentSpec(Spec):
    model: ModelSpec


class PoolUse(Spec):
    """How the dataset's pool of images without masks enters the batches of a training."""

    share: Annotated[float, Field(gt=0, lt=1)] = Field(description="Share of each batch")
    min_confidence: Annotated[float, Field(ge=0, le=1)] | None = Field(
        default=None,
        description="Leave out the pool's pixels where the teachers' highest probability is lower",
    )


class Unlabelled(PoolUse):
    """Use the dataset's pool of images without masks in the distillation batches."""

    compare_without: bool = Field(
        default=False, description="Also distil without the pool, and tell its part of the gain"
    )

    def use(self) -> PoolUse:
        """What a training needs to know of it: who compares it with what is not its business."""
        return PoolUse(share=self.share, min_confidence=self.min_confidence)


class Baseline(Spec):
    """What the matched baseline minimises, when it is not the label terms of the objective."""

    objective: LabelTerms


class Preflight(Spec):
    """What is checked before the first step of a distillation."""

    min_teacher_miou: Annotated[float, Field(ge=0, le=1)] = Field(
        default=0.0, description="Refuse a teacher below this val mIoU"
    )
    max_ignored: Annotated[float, Field(gt=0, le=1)] = Field(
        default=1.0,
        description="Refuse a train split with a greater share of ignored pixels, or with no other",
    )


class LatencySpec(Spec):
    """How latency is measured: batch 1, fixed threads, warm-up runs, then timed runs."""

    size: Size | None = Field(default=None, description="Default: the training size")
    threads: Annotated[int, Field(ge=1, le=256)] = 1
    warmup: Annotated[int, Field(ge=0, le=1000)] = 5
    runs: Annotated[int, Field(ge=1, le=100_000)] = 30


class Resources(Spec):
    """What each job of an experiment asks of the worker that runs it; no part of a job's identity."""

    device: Literal["cpu", "gpu"] = Field(
        default="cpu",
        description="gpu: a training has `train.gpus` GPUs for itself, a comparison has one",
    )
    queue: Name | None = Field(
        default=None, description="Only workers of this queue; default: the device's name"
    )
    labels: tuple[Name, ...] = Field(
        default=(), max_length=16, description="Only workers that have all of these labels"
    )
    memory_gib: Annotated[float, Field(gt=0, le=65_536)] | None = Field(
        default=None,
        description="Main memory that a job takes at most; only workers that have it free",
    )
    run_seconds: Seconds | None = Field(
        default=None, description="A job that runs longer, all attempts together, has failed"
    )

    @property
    def queue_name(self) -> str:
        return self.queue or self.device


class _Experiment(Spec):
    name: Name
    dataset: DatasetRef
    seeds: Seeds = (0,)
    latency: LatencySpec = LatencySpec()
    priority: Annotated[int, Field(ge=-100, le=100)] = Field(
        default=0, description="Higher goes first; a point is worth ten minutes of waiting"
    )
    resources: Resources = Resources()
    deadline_seconds: Seconds | None = Field(
        default=None, description="What has not ended so long after the submission is cancelled"
    )

    @model_validator(mode="after")
    def _seeds_unique(self) -> Self:
        if len(set(self.seeds)) != len(self.seeds):
            raise ValueError("seeds: must be unique")
        return self


class TrainingExperiment(_Experiment):
    """Train one model, once per seed, and report it on the test split."""

    kind: Literal["training"] = "training"
    model: ModelSpec
    objective: LabelTerms = (CrossEntropy(),)
    train: TrainSpec


class DistillationExperiment(_Experiment):
    """Distil teachers into a student, beside its matched baseline, and say how much was gained."""

    kind: Literal["distillation"] = "distillation"
    teachers: tuple[TeacherSpec, ...] = Field(min_length=1, max_length=16)
    ensemble: Ensemble = Ensemble()
    student: StudentSpec
    objective: Terms
    train: TrainSpec
    unlabelled: Unlabelled | None = None
    baseline: bool | Baseline = Field(
        default=True, description="The same student, budget and seeds without teachers"
    )
    preflight: Preflight = Preflight()
    teacher_cache: TeacherCache | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        check_replayable(self.teacher_cache, self.train, self.objective)
        names = [teacher.name for teacher in self.teachers]
        if len(set(names)) != len(names):
            raise ValueError("teachers: names must be unique")
        if not any(term.needs_teacher for term in self.objective):
            raise ValueError("objective: no term uses a teacher; add one such as `kd`")
        if self.unlabelled is not None:
            images = round(self.unlabelled.share * self.train.batch)
            if not 0 < images < self.train.batch:
                raise ValueError(
                    f"unlabelled: this share of a batch of {self.train.batch} is {images} images; "
                    "at least one must have a mask and one must not"
                )
        if self.baseline is True and all(term.needs_teacher for term in self.objective):
            raise ValueError(
                "baseline: the objective has no label term for it; give `baseline: {objective: [...]}`"
            )
        return self

    def baseline_objective(self) -> tuple[Term, ...]:
        """The label terms; a ramp becomes 1, since it only trades the labels against a teacher."""
        if isinstance(self.baseline, Baseline):
            return self.baseline.objective
        return tuple(
            term
            if isinstance(term.weight, float | int)
            else term.model_copy(update={"weight": 1.0})
            for term in self.objective
            if not term.needs_teacher
        )


class EvaluationExperiment(_Experiment):
    """Measure existing models on a split, side by side."""

    kind: Literal["evaluation"] = "evaluation"
    models: tuple[ModelRef, ...] = Field(min_length=1, max_length=32)
    split: Literal["val", "test"] = "test"


Experiment = Annotated[
    TrainingExperiment | DistillationExperiment | EvaluationExperiment, Field(discriminator="kind")
]
experiment_adapter: TypeAdapter[Experiment] = TypeAdapter(Experiment)


def models_of(experiment: Experiment) -> tuple[tuple[str, ModelSpec], ...]:
    """Every network that the experiment would build, with the dotted path of its field."""
    match experiment:
        case TrainingExperiment():
            return (("model", experiment.model),)
        case DistillationExperiment():
            trained = tuple(
                (f"teachers.{index}.train.model", teacher.train.model)
                for index, teacher in enumerate(experiment.teachers)
                if teacher.train is not None
            )
            return (*trained, ("student.model", experiment.student.model))
        case EvaluationExperiment():
            return ()

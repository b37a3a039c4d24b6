"""A job: one unit of work for one worker, as it stands in a run directory's `spec.json`.

Paths inside a job are relative to the run directory, so a job says the same on every machine.
"""

from typing import Annotated, Literal, Self

from pydantic import Field, TypeAdapter, model_validator

from kdcore.spec.base import Name, Sha256, Spec
from kdcore.spec.class_map import ClassNames
from kdcore.spec.experiment import LatencySpec, PoolUse, Preflight
from kdcore.spec.layouts import RelativePath
from kdcore.spec.model import ModelSpec
from kdcore.spec.objective import Ensemble, Term
from kdcore.spec.teacher_cache import TeacherCache, check_replayable
from kdcore.spec.train import TrainSpec

Role = Literal["teacher", "baseline", "distilled_without_pool", "distilled", "model"]
"""``distilled_without_pool``: distilled on labelled images alone, beside students that saw the pool."""


class TeacherInput(Spec):
    name: Name
    path: RelativePath = Field(description="Model folder below the run directory")
    weight: Annotated[float, Field(gt=0)] = 1.0
    classes: ClassNames | None = None


class FitJob(Spec):
    """Train one network; with teachers it is a distillation, without them a plain training."""

    kind: Literal["fit"] = "fit"
    dataset: Sha256 = Field(description="Fingerprint of the dataset manifest")
    model: ModelSpec
    objective: tuple[Term, ...]
    train: TrainSpec
    seed: int
    teachers: tuple[TeacherInput, ...] = ()
    ensemble: Ensemble = Ensemble()
    unlabelled: PoolUse | None = None
    preflight: Preflight = Preflight()
    teacher_cache: TeacherCache | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if any(term.needs_teacher for term in self.objective) and not self.teachers:
            raise ValueError("teachers: the objective needs at least one")
        check_replayable(self.teacher_cache, self.train, self.objective)
        return self


class Contestant(Spec):
    """A model in a comparison."""

    role: Role
    name: str
    seed: int | None = None
    path: RelativePath
    classes: ClassNames | None = None
    """As of `TeacherSpec`: how a teacher's classes mean those of the dataset."""


class CompareJob(Spec):
    """Measure models side by side on one split and write the verdict."""

    kind: Literal["compare"] = "compare"
    dataset: Sha256
    contestants: tuple[Contestant, ...] = Field(min_length=1)
    split: Literal["val", "test"] = "test"
    latency: LatencySpec = LatencySpec()
    unlabelled_used: bool = False
    """The distilled students saw images that the baseline could not use; the verdict says so."""


Job = Annotated[FitJob | CompareJob, Field(discriminator="kind")]
job_adapter: TypeAdapter[Job] = TypeAdapter(Job)

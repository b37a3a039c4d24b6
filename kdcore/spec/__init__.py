"""What people write and processes hand over. Torch-free; nothing here does work."""

from kdcore.spec.base import Spec, canonical, digest
from kdcore.spec.dataset import DatasetManifest, DatasetSource
from kdcore.spec.events import Event, event_adapter
from kdcore.spec.experiment import Experiment, experiment_adapter
from kdcore.spec.job import CompareJob, FitJob, Job, job_adapter
from kdcore.spec.outcome import EXIT_INTERRUPTED, Failure, FailureKind, Outcome
from kdcore.spec.plan import FromJob, FromModel, PlannedJob, plan

__all__ = [
    "EXIT_INTERRUPTED",
    "CompareJob",
    "DatasetManifest",
    "DatasetSource",
    "Event",
    "Experiment",
    "Failure",
    "FailureKind",
    "FitJob",
    "FromJob",
    "FromModel",
    "Job",
    "Outcome",
    "PlannedJob",
    "Spec",
    "canonical",
    "digest",
    "event_adapter",
    "experiment_adapter",
    "job_adapter",
    "plan",
]

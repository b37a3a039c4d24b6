"""What a run directory holds when it is handed over."""

from pathlib import Path

from pydantic import ValidationError

from kdcore.errors import SpecError
from kdcore.spec.dataset import DatasetManifest
from kdcore.spec.job import FitJob, Job, job_adapter
from kdcore.spec.rundir import DATASET_MANIFEST, SPEC
from kdcore.spec.train import TrainSpec


def read_run(run: Path, *, gpus: int | None = None) -> tuple[Job, DatasetManifest]:
    """The job, with another number of ``gpus`` where one is given, and its dataset. Raises: SpecError."""
    job = _read_job(run / SPEC)
    manifest = _read_manifest(run / DATASET_MANIFEST)
    if manifest.fingerprint() != job.dataset:
        raise SpecError("the dataset beside the spec is not the one it names", field="dataset")
    if gpus is None or not isinstance(job, FitJob):
        return job, manifest
    try:
        train = TrainSpec.model_validate({**job.train.to_json(), "gpus": gpus})
    except ValidationError as error:
        raise SpecError(str(error), field="train.gpus") from error
    return job.model_copy(update={"train": train}), manifest


def _read_job(path: Path) -> Job:
    try:
        return job_adapter.validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise SpecError(f"{path.name}: {error}") from error


def _read_manifest(path: Path) -> DatasetManifest:
    try:
        return DatasetManifest.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise SpecError(f"{path.name}: {error}") from error

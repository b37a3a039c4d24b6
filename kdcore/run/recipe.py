"""A whole experiment without any service: plan, run job after job, leave the verdict."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from kdcore.data.scan import files_root, scan
from kdcore.errors import KdError, SpecError
from kdcore.files import sha256_of, write_text
from kdcore.models.store import CARD, read_card
from kdcore.run.directory import run_directory
from kdcore.spec.base import digest
from kdcore.spec.dataset import DatasetManifest, DatasetSource
from kdcore.spec.events import Event
from kdcore.spec.experiment import Experiment, experiment_adapter
from kdcore.spec.outcome import Outcome
from kdcore.spec.plan import FromJob, PlannedJob, plan
from kdcore.spec.pointers import dotted, locate
from kdcore.spec.rundir import DATASET, DATASET_MANIFEST, MODEL, SPEC

CONVERTED = "dataset"

Told = Callable[[PlannedJob, Event], None]


def read_recipe(path: Path) -> tuple[Experiment, DatasetSource]:
    """A recipe: an experiment whose ``dataset`` is a `DatasetSource` or the path of one's file.

    Relative paths start at the recipe's folder. Raises: SpecError, one line a problem.
    """
    document = _read_yaml(path)
    source = document.get("dataset")
    folder = path.parent
    if isinstance(source, str):
        folder = (path.parent / source).parent
        source = _read_yaml(path.parent / source)
    if not isinstance(source, dict):
        raise SpecError(
            "dataset: a mapping, or the path of a file with one, is expected", field="dataset"
        )
    source = {**source, "root": str(folder / str(source.get("root", "")))}
    try:
        dataset = DatasetSource.model_validate(source)
    except ValidationError as error:
        raise _spec_error("dataset", error, source) from error
    document = {**document, "dataset": dataset.name}
    try:
        return experiment_adapter.validate_python(document), dataset
    except ValidationError as error:
        raise _spec_error(path.name, error, document) from error


def run_recipe(path: Path, out: Path, *, told: Told) -> Path:
    """Run the experiment of a recipe; finished jobs of an earlier call are not run again.

    Leaves ``out/jobs/{key}/`` (run directories) and, for a layout that is no plain image files,
    ``out/dataset/`` (the converted ones); returns the folder of the verdict's report.
    Raises: KdError.
    """
    experiment, source = read_recipe(path)
    converted = out / CONVERTED
    manifest = scan(source, converted=converted)
    root = files_root(source, converted)
    folder = path.parent
    planned = plan(experiment, manifest.fingerprint(), lambda ref: _model_digest(folder / ref))
    for job in planned:
        run = _lay_out(out, job, manifest, root, folder)
        outcome = run_directory(run, listener=partial(told, job))
        _raise_unless_succeeded(job, outcome)
    return out / "jobs" / planned[-1].key / "report"


def _spec_error(name: str, error: ValidationError, document: dict[str, Any]) -> SpecError:
    """All problems at once, each at its place in the document."""
    located = locate(error.errors(), document)
    lines = [f"{dotted(item.path) or 'recipe'}: {item.message}" for item in located]
    return SpecError(f"{name}: " + "\n".join(lines), field=dotted(located[0].path))


def _lay_out(
    out: Path, job: PlannedJob, manifest: DatasetManifest, root: Path, folder: Path
) -> Path:
    """The run directory of a job; one that another spec left behind under this key is refused."""
    run = out / "jobs" / job.key
    spec = job.job.model_dump_json(by_alias=True, indent=2)
    if (run / SPEC).exists() and (run / SPEC).read_text() != spec:
        raise SpecError(
            f"{run} was made from another recipe", remedy="choose another --out, or remove it"
        )
    (run / DATASET).mkdir(parents=True, exist_ok=True)
    for entry in manifest.files():
        _link(root / entry.path, run / DATASET / entry.path)
    for path, origin in job.inputs.items():
        made = (
            out / "jobs" / origin.key / MODEL
            if isinstance(origin, FromJob)
            else folder / origin.ref
        )
        _link(made, run / path)
    for name, text in ((DATASET_MANIFEST, manifest.model_dump_json()), (SPEC, spec)):
        write_text(run / name, text)
    return run


def _link(target: Path, link: Path) -> None:
    if not link.is_symlink():
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(target.absolute())


def _model_digest(folder: Path) -> str:
    read_card(folder)
    names = ("model.safetensors", CARD)
    return digest({name: sha256_of(folder / name) for name in names})


def _raise_unless_succeeded(job: PlannedJob, outcome: Outcome) -> None:
    if outcome.status == "succeeded":
        return
    failure = outcome.failure
    assert failure is not None
    error = KdError(f"{job.key}: {failure.message}", field=failure.field, remedy=failure.remedy)
    error.kind = failure.kind
    raise error


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise SpecError(f"{path}: {error}") from error
    if not isinstance(document, dict):
        raise SpecError(f"{path}: a mapping is expected")
    return document

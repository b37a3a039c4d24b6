"""A whole experiment without any service: plan, run job after job, leave the verdict."""

from collections.abc import Callable, Sequence
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
from kdcore.run.forms import Form, form_of
from kdcore.run.settings import with_settings
from kdcore.spec.base import digest
from kdcore.spec.dataset import DatasetManifest, DatasetSource
from kdcore.spec.events import Event
from kdcore.spec.experiment import Experiment, experiment_adapter
from kdcore.spec.outcome import Outcome
from kdcore.spec.plan import FromJob, Input, PlannedJob, plan
from kdcore.spec.pointers import dotted, locate
from kdcore.spec.rundir import DATASET, DATASET_MANIFEST, MODEL, SPEC

CONVERTED = "dataset"

Told = Callable[[PlannedJob, Event], None]


def read_recipe(
    path: Path,
    *,
    form: Form | None = None,
    data: Path | None = None,
    settings: Sequence[str] = (),
    gpus: int | None = None,
) -> tuple[Experiment, DatasetSource]:
    """A recipe: an experiment whose ``dataset`` is a `DatasetSource` or the path of one's file.

    ``form``: a smaller one (`kdcore.run.forms`). ``settings``: `path=value`
    (`kdcore.run.settings`). ``gpus``: of every training in it. ``data`` stands for the
    dataset's root. Relative paths in it start at the recipe's folder. Raises: SpecError, one line
    a problem.
    """
    document = with_settings(form_of(_read_yaml(path), form), settings)
    document = document if gpus is None else _on_gpus(document, gpus)
    source = document.get("dataset")
    folder = path.parent
    if isinstance(source, str):
        folder = (path.parent / source).parent
        source = _read_yaml(path.parent / source)
    if not isinstance(source, dict):
        raise SpecError(
            "dataset: a mapping, or the path of a file with one, is expected", field="dataset"
        )
    root = folder / str(source.get("root", "")) if data is None else data.absolute()
    source = {**source, "root": str(root)}
    try:
        dataset = DatasetSource.model_validate(source)
    except ValidationError as error:
        raise _spec_error("dataset", error, source) from error
    document = {**document, "dataset": dataset.name}
    try:
        return experiment_adapter.validate_python(document), dataset
    except ValidationError as error:
        raise _spec_error(path.name, error, document) from error


def run_recipe(
    path: Path,
    out: Path,
    *,
    told: Told,
    form: Form | None = None,
    data: Path | None = None,
    settings: Sequence[str] = (),
    profile: bool = False,
    gpus: int | None = None,
) -> Path:
    """Run the experiment of a recipe; finished jobs of an earlier call are not run again.

    Leaves ``out/jobs/{key}/`` (run directories) and, for a layout that is no plain image files,
    ``out/dataset/`` (the converted ones); returns the folder of the verdict's report.
    Raises: KdError.
    """
    experiment, source = read_recipe(path, form=form, data=data, settings=settings, gpus=gpus)
    _check_root(source)
    converted = out / CONVERTED
    manifest = scan(source, converted=converted)
    root = files_root(source, converted)
    folder = path.parent
    planned = plan(experiment, manifest.fingerprint(), lambda ref: model_digest(folder / ref))

    def model_of(origin: Input) -> Path:
        if isinstance(origin, FromJob):
            return out / "jobs" / origin.key / MODEL
        return folder / origin.ref

    for job in planned:
        run = out / "jobs" / job.key
        lay_out(run, job, manifest, root, model_of=model_of)
        outcome = run_directory(run, listener=partial(told, job), profile=profile)
        _raise_unless_succeeded(job, outcome)
    return out / "jobs" / planned[-1].key / "report"


def _on_gpus(node: Any, gpus: int) -> Any:
    """``node`` with that number in every `train` that says for how many steps."""
    if isinstance(node, list):
        return [_on_gpus(each, gpus) for each in node]
    if not isinstance(node, dict):
        return node
    made = {key: _on_gpus(value, gpus) for key, value in node.items()}
    train = made.get("train")
    # A teacher's `train` holds its model, and its own `train`.
    if isinstance(train, dict) and "model" not in train:
        made["train"] = {**train, "gpus": gpus}
    return made


def _check_root(source: DatasetSource) -> None:
    if not Path(source.root).is_dir():
        raise SpecError(
            f"the dataset {source.name} is not here: {source.root} is no folder",
            field="dataset.root",
            remedy="name its folder: kd run RECIPE --data FOLDER",
        )


def _spec_error(name: str, error: ValidationError, document: dict[str, Any]) -> SpecError:
    """All problems at once, each at its place in the document."""
    located = locate(error.errors(), document)
    lines = [f"{dotted(item.path) or 'recipe'}: {item.message}" for item in located]
    return SpecError(f"{name}: " + "\n".join(lines), field=dotted(located[0].path))


def lay_out(
    run: Path,
    job: PlannedJob,
    manifest: DatasetManifest,
    root: Path,
    *,
    model_of: Callable[[Input], Path],
) -> None:
    """Make the run directory of ``job``, with links to its data below ``root`` and to its models.

    Raises: SpecError, when it is there already and was made from another spec.
    """
    spec = job.job.model_dump_json(by_alias=True, indent=2)
    if (run / SPEC).exists() and (run / SPEC).read_text() != spec:
        raise SpecError(
            f"{run} was made from another recipe", remedy="choose another --out, or remove it"
        )
    (run / DATASET).mkdir(parents=True, exist_ok=True)
    for entry in manifest.files():
        _link(root / entry.path, run / DATASET / entry.path)
    for path, origin in job.inputs.items():
        _link(model_of(origin), run / path)
    for name, text in ((DATASET_MANIFEST, manifest.model_dump_json()), (SPEC, spec)):
        write_text(run / name, text)


def _link(target: Path, link: Path) -> None:
    if not link.is_symlink():
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(target.absolute())


def model_digest(folder: Path) -> str:
    """sha256 over the files of a model folder. Raises: SpecError, when it is none."""
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

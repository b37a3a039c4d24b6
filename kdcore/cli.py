"""`kd`: run directories and recipes on the command line."""

import importlib.util
import json
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from kdcore.errors import DatasetInvalid, KdError, SpecError

app = typer.Typer(
    help="Distil segmentation models.", no_args_is_help=True, pretty_exceptions_enable=False
)

EXIT_INVALID = 2
DOCTOR = "worker.doctor"


@app.command()
def run(
    target: Annotated[
        Path, typer.Argument(help="A recipe (YAML), or a run directory with a spec.json")
    ],
    out: Annotated[
        Path | None, typer.Option(help="With a recipe: the folder for its runs and its verdict")
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="With a recipe: the dataset's folder, instead of its `root`")
    ] = None,
    smoke: Annotated[
        bool, typer.Option("--smoke", help="With a recipe: its form for a minute")
    ] = False,
    small: Annotated[
        bool, typer.Option("--small", help="With a recipe: its form for a machine without a GPU")
    ] = False,
    gpus: Annotated[
        int | None, typer.Option(min=1, help="Train each network on so many GPUs of this machine")
    ] = None,
    profile: Annotated[
        bool, typer.Option("--profile", help="Also tell where the time of a training step goes")
    ] = False,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="With a recipe: a value of it, such as train.steps=500"),
    ] = None,
) -> None:
    """Run a recipe to its verdict, or one run directory to its outcome.

    Example: kd run recipes/voc.yaml --data /path/to/voc --out runs/voc
    """
    # torch takes seconds to import; `kd scan` and `kd --help` do without.
    from rich.console import Console

    from kdcore.run.console import print_profile, run_recipe_with_progress
    from kdcore.run.directory import run_directory
    from kdcore.run.ending import exit_status
    from kdcore.run.forms import Form
    from kdcore.run.memory import keep_freed_memory

    keep_freed_memory()
    if target.is_dir():
        if smoke or small or settings or data is not None:
            _fail(SpecError(f"{target} is a run directory; other options are for recipes"))
        outcome = run_directory(target, profile=profile, gpus=gpus)
        if profile:
            print_profile(target, Console())
        if outcome.failure is not None:
            print(outcome.failure.model_dump_json(indent=2), file=sys.stderr)
        raise typer.Exit(exit_status(outcome))
    form: Form | None = "smoke" if smoke else "small" if small else None
    out = out or Path("runs") / (f"{target.stem}-{form}" if form else target.stem)
    try:
        run_recipe_with_progress(
            target, out,
            form=form, data=data, settings=settings or (), profile=profile, gpus=gpus,
        )  # fmt: skip
    except KdError as error:
        _fail(error)


@app.command()
def scan(
    source: Annotated[Path, typer.Argument(help="A dataset source (JSON)")],
    out: Annotated[Path, typer.Option(help="Where the manifest, or the list of bad files, goes")],
    converted: Annotated[
        Path | None,
        typer.Option(help="For layouts that are no plain image files: where those are written"),
    ] = None,
    thumbnails: Annotated[
        Path | None, typer.Option(help="A folder for small pictures of samples with their masks")
    ] = None,
    thumbnails_each: Annotated[
        int | None, typer.Option(min=1, help="At most so many of a split, spread over it")
    ] = None,
) -> None:
    """Read every file of a dataset and write its manifest; exit 2 and a list of bad files otherwise.

    Paths in the manifest start at --converted for the layouts brats, hdf5, coco, parquet and a voc
    archive, and at the source's root for the others.

    Example: kd scan source.json --out manifest.json
    """
    from kdcore.data.scan import scan as scan_dataset
    from kdcore.data.thumbnails import Album
    from kdcore.spec.dataset import DatasetSource

    described = DatasetSource.model_validate_json(source.read_bytes())
    album = None if thumbnails is None else Album(thumbnails, thumbnails_each)
    try:
        manifest = scan_dataset(described, converted=converted, thumbnails=album)
    except DatasetInvalid as error:
        problems = [{"file": p.file, "reason": p.reason} for p in error.problems]
    except SpecError as error:
        told = f"{error.message} ({error.remedy})" if error.remedy else error.message
        problems = [{"file": error.field or source.name, "reason": told}]
    else:
        out.write_text(manifest.model_dump_json())
        return
    out.write_text(json.dumps({"errors": problems}))
    raise typer.Exit(EXIT_INVALID)


@app.command(
    add_help_option=False,
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
)
def doctor(context: typer.Context) -> None:
    """Check what a worker of the service depends on, and say how to mend it.

    Example: kd doctor --json
    """
    # A program of its own: this library knows nothing of the service.
    if not _is_installed(DOCTOR):
        _fail(
            KdError(
                "the service is not installed here",
                remedy="run it where a worker runs: in a checkout, or in the worker's image",
            )
        )
    os.execv(  # noqa: S606 (there is nothing for a shell to read)
        sys.executable, [sys.executable, "-m", DOCTOR, *context.args]
    )


def main() -> None:
    app()


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def _fail(error: KdError) -> None:
    print(f"error: {error.message}", file=sys.stderr)
    for problem in error.problems if isinstance(error, DatasetInvalid) else ():
        print(f"  {problem.file}: {problem.reason}", file=sys.stderr)
    if error.field is not None:
        print(f"field: {error.field}", file=sys.stderr)
    if error.remedy is not None:
        print(f"remedy: {error.remedy}", file=sys.stderr)
    raise typer.Exit(1)

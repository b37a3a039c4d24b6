"""`kd run recipe.yaml` in a terminal: one bar a job, then the verdict."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from kdcore.report.terminal import to_tables
from kdcore.report.verdict import Verdict
from kdcore.run.forms import Form
from kdcore.run.recipe import run_recipe
from kdcore.spec import events
from kdcore.spec.plan import PlannedJob
from kdcore.spec.rundir import PROFILE
from kdcore.train.profile import TABLE, TRACE


def run_recipe_with_progress(
    recipe: Path,
    out: Path,
    *,
    form: Form | None = None,
    data: Path | None = None,
    settings: Sequence[str] = (),
    profile: bool = False,
    gpus: int | None = None,
) -> None:
    """Run a recipe, show its bars, print its verdict and where the report is. Raises: KdError.

    With ``profile`` also the time of each fit's steps by part.
    """
    console = Console()
    columns = (
        TextColumn("{task.description:<16}"),
        TextColumn("{task.fields[stage]:<10}"),
        BarColumn(bar_width=None),
        TextColumn("{task.completed:>6.0f}/{task.total:<6.0f}"),
        TextColumn("{task.fields[speed]}"),
        TextColumn("{task.fields[miou]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as progress:
        bars = _Bars(progress)
        report = run_recipe(
            recipe, out,
            told=bars.tell, form=form, data=data, settings=settings, profile=profile, gpus=gpus,
        )  # fmt: skip
    for run in sorted((out / "jobs").iterdir()) if profile else ():
        print_profile(run, console)
    verdict = Verdict.model_validate_json((report / "verdict.json").read_bytes())
    console.print(to_tables(verdict))
    console.print(f"[bold]{verdict.sentence}[/bold]")
    for note in verdict.notes:
        console.print(f"  {note}")
    console.print(f"Report: {report / 'verdict.html'}")


def print_profile(run: Path, console: Console) -> None:
    """The table of a run directory and where its trace is, if there are any."""
    if (run / PROFILE / TABLE).exists():
        console.print(f"\n{run.name}\n{(run / PROFILE / TABLE).read_text()}", highlight=False)
        console.print(f"Trace: {run / PROFILE / TRACE}")


class _Bars:
    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._tasks: dict[str, TaskID] = {}

    def tell(self, job: PlannedJob, event: events.Event) -> None:
        if job.key not in self._tasks:
            self._tasks[job.key] = self._progress.add_task(
                job.key, stage="", speed="", miou="", total=1
            )
        task = self._tasks[job.key]
        if isinstance(event, events.Progress):
            self._progress.update(
                task, stage=event.stage, completed=event.step, total=max(1, event.steps)
            )
        elif isinstance(event, events.Metric):
            self._show(task, event.values)
        elif isinstance(event, events.Resolved):
            choices = ", ".join(f"{field} {value}" for field, value in event.values.items())
            self._progress.console.print(f"[dim]{job.key}: {choices}[/dim]")
        elif isinstance(event, events.Warned):
            self._progress.console.print(f"[yellow]{job.key}: {event.message}[/yellow]")

    def _show(self, task: TaskID, values: dict[str, float]) -> None:
        if "val/miou" in values:
            self._progress.update(task, miou=f"val mIoU {values['val/miou']:.3f}")
        if "speed/images_per_second" in values:
            rate, stall = values["speed/images_per_second"], values["speed/input_stall"]
            self._progress.update(task, speed=f"{rate:.1f} img/s, {stall:.0%} input stall")

"""An experiment's jobs as they go on: bars at a terminal, plain lines elsewhere."""

import time
from collections.abc import Mapping, Sequence
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

LINE_SECONDS = 10.0
MARKS = {
    "waiting": "[dim]waiting[/]",
    "queued": "queued",
    "running": "[cyan]running[/]",
    "succeeded": "[green]done[/]",
    "failed": "[red]failed[/]",
    "cancelled": "[yellow]cancelled[/]",
}


class JobsProgress:
    """``show`` takes the jobs of `GET /v1/experiments/{id}` and the newest val mIoU by job id."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[text]}"),
            console=console,
            disable=not console.is_terminal,
        )
        self._tasks: dict[str, TaskID] = {}
        self._phases: dict[str, str] = {}
        self._lines: dict[str, str] = {}
        self._printed = 0.0

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._bars.stop()

    def show(self, jobs: Sequence[Mapping[str, Any]], scores: Mapping[str, float]) -> None:
        if self._console.is_terminal:
            self._show_bars(jobs, scores)
        else:
            self._show_lines(jobs, scores)

    def _show_bars(self, jobs: Sequence[Mapping[str, Any]], scores: Mapping[str, float]) -> None:
        width = max((len(job["key"]) for job in jobs), default=0)
        for job in jobs:
            if job["id"] not in self._tasks:
                self._tasks[job["id"]] = self._bars.add_task(job["key"].ljust(width), total=100)
            self._bars.update(
                self._tasks[job["id"]],
                completed=100 if job["phase"] == "succeeded" else job["progressPercentage"] or 0,
                text=f"{MARKS[job['phase']]} {_text(job, scores.get(job['id']))}",
            )

    def _show_lines(self, jobs: Sequence[Mapping[str, Any]], scores: Mapping[str, float]) -> None:
        due = time.monotonic() - self._printed > LINE_SECONDS
        for job in jobs:
            changed = self._phases.get(job["id"]) != job["phase"]
            if changed or (due and job["phase"] == "running"):
                line = f"{job['key']}: {job['phase']} {_text(job, scores.get(job['id']))}".rstrip()
                if line != self._lines.get(job["id"]):
                    self._console.print(line, markup=False, highlight=False, soft_wrap=True)
                self._lines[job["id"]] = line
                self._phases[job["id"]] = job["phase"]
                self._printed = time.monotonic()


def _text(job: Mapping[str, Any], score: float | None) -> str:
    parts = []
    if job["reused"]:
        parts.append("reused")
    progress = job["progress"]
    if job["phase"] == "running" and progress:
        parts.append(f"{progress['stage']} {progress['step']}/{progress['steps']}")
        remaining = job["estimatedRemainingSeconds"]
        if remaining is not None:
            parts.append(f"{remaining:.0f} s left")
    if job["phase"] == "running" and job["attempt"] > 1:
        parts.append(f"attempt {job['attempt']}")
    if score is not None:
        parts.append(f"val mIoU {score:.3f}")
    if job["phase"] in ("failed", "cancelled"):
        parts.append(": ".join(filter(None, (job["reason"], job["message"]))))
    return "  ".join(parts)

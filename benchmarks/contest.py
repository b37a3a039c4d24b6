"""The fits of several recipes, each done once however many recipes need it."""

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from kdcore.data.scan import files_root, scan
from kdcore.run.directory import read_outcome
from kdcore.run.forms import Form
from kdcore.run.recipe import lay_out, model_digest, read_recipe
from kdcore.spec.dataset import DatasetManifest
from kdcore.spec.job import FitJob
from kdcore.spec.plan import FromJob, Input, PlannedJob, plan

PLAIN = "plain"


@dataclass
class Contest:
    """``methods``: name of a row -> the run directory of each seed, in the order of the seeds."""

    out: Path
    fits: dict[Path, tuple[Path, ...]] = field(default_factory=dict)
    """Run directory -> those whose models it needs, which stand before it."""
    methods: dict[str, list[Path]] = field(default_factory=dict)
    teachers: set[str] = field(default_factory=set)
    manifest: DatasetManifest | None = None

    def enter(
        self, recipe: Path, *, form: Form | None, data: Path | None, settings: Sequence[str]
    ) -> None:
        """Lay out the run directories of one recipe. Raises: KdError."""
        experiment, source = read_recipe(recipe, form=form, data=data, settings=settings)
        converted = self.out / "dataset"
        self.manifest = self.manifest or scan(source, converted=converted)
        folder = recipe.parent
        planned = plan(
            experiment, self.manifest.fingerprint(), lambda ref: model_digest(folder / ref)
        )
        runs = {job.key: self.out / "jobs" / f"{job.key}-{job.digest[:12]}" for job in planned}

        def model_of(origin: Input) -> Path:
            return (
                runs[origin.key] / "model" if isinstance(origin, FromJob) else folder / origin.ref
            )

        for job in planned:
            if isinstance(job.job, FitJob):
                run = runs[job.key]
                lay_out(run, job, self.manifest, files_root(source, converted), model_of=model_of)
                self.fits[run] = tuple(runs[key] for key in job.needs)
                self._list(_row(job, experiment.name), run)

    def _list(self, row: tuple[str, bool], run: Path) -> None:
        name, teaches = row
        runs = self.methods.setdefault(name, [])
        if run not in runs:
            runs.append(run)
        if teaches:
            self.teachers.add(name)


def _row(job: PlannedJob, experiment: str) -> tuple[str, bool]:
    if job.role == "teacher":
        return f"teacher {job.key.removeprefix('teacher-')}", True
    if job.role == "baseline":
        return PLAIN, False
    return experiment, False


def run_fits(fits: dict[Path, tuple[Path, ...]], *, processes: int) -> None:
    """Train what is not trained yet, ``processes`` at a time, each with one thread."""
    done: dict[Path, Future[None]] = {}
    with ThreadPoolExecutor(processes) as pool:
        for run, needs in fits.items():
            done[run] = pool.submit(_fit, run, [done[other] for other in needs])
    for future in done.values():
        future.result()


def _fit(run: Path, needs: Sequence[Future[None]]) -> None:
    for future in needs:
        future.result()
    started = time.monotonic()
    subprocess.run(
        [sys.executable, "-m", "kdcore", "run", str(run)],
        env={**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"},
        check=True,
    )
    outcome = read_outcome(run)
    assert outcome is not None, "a run that exits with 0 has left its outcome"
    miou, minutes = outcome.metrics["val/miou"], (time.monotonic() - started) / 60
    print(f"{run.name}: val mIoU {miou:.3f}, {minutes:.1f} minutes", flush=True)

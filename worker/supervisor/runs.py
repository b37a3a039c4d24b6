"""The folder of run directories, ``runs/{job}/a{attempt}``, and what becomes of them."""

import shutil
import time
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from uuid import UUID

from kdcore.spec import rundir


def run_directory(runs: Path, *, job_id: UUID, attempt: int) -> Path:
    return runs / str(job_id) / f"a{attempt}"


def strip(run: Path) -> None:
    """Leave only the log of a run whose results are published."""
    for path in run.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        elif path.name != rundir.LOG:
            path.unlink(missing_ok=True)


def sweep(runs: Path, *, active: Collection[Path], keep_seconds: float) -> list[Path]:
    """Remove the runs that nobody wrote to for ``keep_seconds``, but for the active ones."""
    removed = []
    for run in runs.glob("*/a*"):
        if run not in active and time.time() - _last_written(run) > keep_seconds:
            shutil.rmtree(run, ignore_errors=True)
            removed.append(run)
            with suppress(OSError):
                run.parent.rmdir()  # refused while another attempt's directory is in it
    return removed


def _last_written(run: Path) -> float:
    """The newest of the folder itself and the two files that grow while it runs."""
    newest = 0.0
    for path in (run, run / rundir.EVENTS, run / rundir.LOG):
        with suppress(FileNotFoundError):
            newest = max(newest, path.stat().st_mtime)
    return newest

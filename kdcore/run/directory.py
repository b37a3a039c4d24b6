"""A run directory, from `spec.json` to `outcome.json`."""

import contextlib
import os
from pathlib import Path

import torch

from kdcore.errors import DiskFull
from kdcore.files import write_text
from kdcore.run.compare import run_compare
from kdcore.run.ending import outcome_of, termination
from kdcore.run.events import EventLog, Listener
from kdcore.run.fit import run_fit
from kdcore.run.ranks import run_ranks
from kdcore.run.reading import read_run
from kdcore.spec.job import FitJob
from kdcore.spec.outcome import Outcome
from kdcore.spec.rundir import EVENTS, OUTCOME


def run_directory(
    run: Path,
    *,
    listener: Listener | None = None,
    profile: bool = False,
    gpus: int | None = None,
) -> Outcome:
    """Do what ``run/spec.json`` says and write ``run/outcome.json``, if the disk has room for it.

    ``profile``: a fit also leaves ``run/profile`` (`kdcore.train.profile`).
    ``gpus``: another number of them than the job says.
    A finished directory is not run again. An unfinished one goes on from its last checkpoint.
    """
    done = read_outcome(run)
    if done is not None and done.status == "succeeded":
        return done
    (run / OUTCOME).unlink(missing_ok=True)
    run.mkdir(parents=True, exist_ok=True)
    _drop_torn_line(run)
    log = EventLog(run, listener)
    try:
        outcome = outcome_of(lambda: _run(run, log, listener, profile=profile, gpus=gpus))
    finally:
        # On a full disk the last line cannot be flushed; how the run ended matters more.
        with contextlib.suppress(OSError):
            log.close()
    try:
        write_text(run / OUTCOME, outcome.model_dump_json(indent=2))
    except DiskFull as error:
        # Not even room for this file: the exit status and the full disk have to say it.
        return Outcome(status="failed", failure=error.failure())
    return outcome


def read_outcome(run: Path) -> Outcome | None:
    """How the run ended, or None while it has not."""
    try:
        return Outcome.model_validate_json((run / OUTCOME).read_bytes())
    except FileNotFoundError:
        return None


def _run(
    run: Path, log: EventLog, listener: Listener | None, *, profile: bool, gpus: int | None
) -> Outcome:
    job, manifest = read_run(run, gpus=gpus)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with termination() as stop:
        if not isinstance(job, FitJob):
            return run_compare(
                run, job, manifest, log=log, stop_requested=stop.is_set, device=device
            )
        if job.train.gpus > 1:
            return run_ranks(
                run, job.train.gpus,
                listener=listener, stop_requested=stop.is_set, profile=profile,
            )  # fmt: skip
        return run_fit(
            run, job, manifest,
            log=log, stop_requested=stop.is_set, device=device, profile=profile,
        )  # fmt: skip


def _drop_torn_line(run: Path) -> None:
    """A killed run may have left half a line; events are whole lines only."""
    path = run / EVENTS
    if path.exists():
        os.truncate(path, path.read_bytes().rfind(b"\n") + 1)

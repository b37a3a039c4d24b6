"""A run directory, from `spec.json` to `outcome.json`."""

import contextlib
import os
import signal
import threading
import traceback
from collections.abc import Iterator
from pathlib import Path

import torch
from pydantic import ValidationError

from kdcore.errors import DiskFull, Interrupted, KdError, SpecError
from kdcore.files import is_disk_full, write_text
from kdcore.run.compare import run_compare
from kdcore.run.events import EventLog, Listener
from kdcore.run.fit import run_fit
from kdcore.spec.dataset import DatasetManifest
from kdcore.spec.job import FitJob, Job, job_adapter
from kdcore.spec.outcome import EXIT_INTERRUPTED, Failure, FailureKind, Outcome
from kdcore.spec.rundir import DATASET_MANIFEST, EVENTS, OUTCOME, SPEC


def run_directory(run: Path, *, listener: Listener | None = None, profile: bool = False) -> Outcome:
    """Do what ``run/spec.json`` says and write ``run/outcome.json``, if the disk has room for it.

    ``profile``: a fit also leaves ``run/profile`` (`kdcore.train.profile`).
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
        outcome = _run(run, log, profile=profile)
    except Interrupted as error:
        outcome = Outcome(status="interrupted", failure=error.failure())
    except KdError as error:
        outcome = Outcome(status="failed", failure=error.failure())
    # The boundary of the process: whatever it was, it is written down with its traceback.
    except Exception as error:  # noqa: BLE001
        traceback.print_exc()
        outcome = Outcome(status="failed", failure=_unforeseen(error))
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


def exit_status(outcome: Outcome) -> int:
    return {"succeeded": 0, "interrupted": EXIT_INTERRUPTED, "failed": 1}[outcome.status]


def _run(run: Path, log: EventLog, *, profile: bool) -> Outcome:
    job = _read_job(run / SPEC)
    manifest = _read_manifest(run / DATASET_MANIFEST)
    if manifest.fingerprint() != job.dataset:
        raise SpecError("the dataset beside the spec is not the one it names", field="dataset")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with _termination() as stop:
        if isinstance(job, FitJob):
            return run_fit(
                run, job, manifest,
                log=log, stop_requested=stop.is_set, device=device, profile=profile,
            )  # fmt: skip
        return run_compare(run, job, manifest, log=log, stop_requested=stop.is_set, device=device)


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


@contextlib.contextmanager
def _termination() -> Iterator[threading.Event]:
    """While open, SIGTERM and SIGINT ask for a checkpoint and an end instead of ending at once."""
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    before = {
        number: signal.signal(number, lambda *_: asked.set())
        for number in (signal.SIGTERM, signal.SIGINT)
    }
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _unforeseen(error: Exception) -> Failure:
    if is_disk_full(error):
        return DiskFull(str(error), remedy="free disk space, then retry the job").failure()
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        kind = FailureKind.OUT_OF_MEMORY
    else:
        kind = FailureKind.CODE_ERROR
    return Failure(kind=kind, message=f"{type(error).__name__}: {error}"[:2000])


def _drop_torn_line(run: Path) -> None:
    """A killed run may have left half a line; events are whole lines only."""
    path = run / EVENTS
    if path.exists():
        os.truncate(path, path.read_bytes().rfind(b"\n") + 1)

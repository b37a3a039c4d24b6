"""How a trainer that is gone has ended."""

import json
import shutil
import signal
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from kdcore.spec import EXIT_INTERRUPTED, FailureKind, Outcome, rundir
from worker.artifacts import ArtifactStore
from worker.ledger.files import FileRef
from worker.supervisor.failing import AttemptFailed, failed
from worker.supervisor.logfile import last_lines

OWN_FAULT = frozenset(
    {
        signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL,
        signal.SIGABRT, signal.SIGTRAP, signal.SIGSYS,
    }
)  # fmt: skip
FULL_BYTES = 2**20
"""With less than this free a trainer could not even write down how it ended."""


def classify(run: Path, exit_status: int, *, asked: bool, out_of_memory: bool) -> Outcome:
    """What `outcome.json` says; without one, what the exit status means.

    ``asked``: it was told to stop. ``out_of_memory``: the kernel killed something for lack of
    memory while it ran. Raises AttemptFailed (`TRAINER_GARBLED`).
    """
    outcome = _read_outcome(run)
    if outcome is not None:
        return outcome
    if asked or exit_status == EXIT_INTERRUPTED:
        return failed(FailureKind.INTERRUPTED, "the run was asked to stop")
    if exit_status == -signal.SIGKILL and out_of_memory:
        return failed(FailureKind.OUT_OF_MEMORY, "the kernel killed the trainer: out of memory")
    if exit_status < 0:
        return _killed_by(signal.Signals(-exit_status))
    if exit_status == 0:
        raise AttemptFailed(
            FailureKind.TRAINER_GARBLED, "the trainer reported success and left no outcome"
        )
    if shutil.disk_usage(run).free < FULL_BYTES:
        return failed(FailureKind.DISK_FULL, "no space was left on the worker's disk")
    said = last_lines(run / rundir.LOG)
    return failed(FailureKind.CODE_ERROR, f"exit status {exit_status}\n{said}".strip())


def store_files(run: Path, outcome: Outcome, store: ArtifactStore) -> dict[str, FileRef]:
    """Store what the outcome names. Raises AttemptFailed, or what `ArtifactStore.put` raises."""
    return {path: store.put(_made_by_run(run, path)) for path in outcome.files}


def read_verdict(run: Path, outcome: Outcome) -> dict[str, Any] | None:
    """The verdict a comparison left, None for other jobs. Raises AttemptFailed."""
    if outcome.status != "succeeded" or rundir.VERDICT not in outcome.files:
        return None
    try:
        verdict = json.loads((run / rundir.VERDICT).read_bytes())
    except (OSError, ValueError) as error:
        raise AttemptFailed(FailureKind.TRAINER_GARBLED, f"{rundir.VERDICT}: {error}") from error
    if not isinstance(verdict, dict):
        raise AttemptFailed(FailureKind.TRAINER_GARBLED, f"{rundir.VERDICT}: not an object")
    return verdict


def _killed_by(number: signal.Signals) -> Outcome:
    if number in OWN_FAULT:
        return failed(FailureKind.TRAINER_CRASHED, f"the trainer crashed with {number.name}")
    return failed(FailureKind.TRAINER_KILLED, f"the trainer was killed by {number.name}")


def _read_outcome(run: Path) -> Outcome | None:
    try:
        return Outcome.model_validate_json((run / rundir.OUTCOME).read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValidationError) as error:
        raise AttemptFailed(FailureKind.TRAINER_GARBLED, f"{rundir.OUTCOME}: {error}") from error


def _made_by_run(run: Path, path: str) -> Path:
    """The named file, which must be a regular one inside the run directory."""
    resolved = (run / path).resolve()
    if not resolved.is_relative_to(run.resolve()) or not resolved.is_file():
        raise AttemptFailed(
            FailureKind.TRAINER_GARBLED, f"{rundir.OUTCOME} names {path!r}, which is no file of it"
        )
    return resolved

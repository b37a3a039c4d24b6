"""How a run ends, whatever ends it, and how it is asked to."""

import contextlib
import signal
import threading
import traceback
from collections.abc import Callable, Iterator

import torch

from kdcore.errors import DiskFull, Interrupted, KdError
from kdcore.files import is_disk_full
from kdcore.spec.outcome import EXIT_INTERRUPTED, Failure, FailureKind, Outcome


def outcome_of(work: Callable[[], Outcome]) -> Outcome:
    """What ``work`` returns, or what its error means; raises nothing of its own."""
    try:
        return work()
    except Interrupted as error:
        return Outcome(status="interrupted", failure=error.failure())
    except KdError as error:
        return Outcome(status="failed", failure=error.failure())
    # The boundary of the process: whatever it was, it is written down with its traceback.
    except Exception as error:  # noqa: BLE001
        traceback.print_exc()
        return Outcome(status="failed", failure=_unforeseen(error))


def exit_status(outcome: Outcome) -> int:
    return {"succeeded": 0, "interrupted": EXIT_INTERRUPTED, "failed": 1}[outcome.status]


@contextlib.contextmanager
def termination() -> Iterator[threading.Event]:
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

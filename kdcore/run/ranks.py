"""A fit on several GPUs: one process each, started, watched and ended together.

What `torchrun` would do on one machine, but for three points: a rank that is asked to stop has as
long as its checkpoint takes (there 30 s), it dies with the process that started it, and why it ended
is told by the run's own kinds of failure.
"""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from kdcore.errors import SpecError
from kdcore.run.events import Listener
from kdcore.run.rank import PROFILE_OPTION, outcome_file
from kdcore.spec.events import event_adapter
from kdcore.spec.outcome import EXIT_INTERRUPTED, Failure, FailureKind, Outcome
from kdcore.spec.rundir import EVENTS

GRACE_SECONDS = 10.0
"""How long the others have to see that one is gone; a GPU waits for it for ever."""
_IN_ORDER = (None, 0, EXIT_INTERRUPTED)
"""Not ended, or as they should: the first rank may still be writing a checkpoint then."""
_TURN_SECONDS = 0.05
_CONSEQUENCES = (FailureKind.CODE_ERROR, FailureKind.INTERRUPTED)
"""What the other ranks say when one has failed, the likeliest last."""


def run_ranks(
    run: Path,
    count: int,
    *,
    listener: Listener | None,
    stop_requested: Callable[[], bool],
    profile: bool,
) -> Outcome:
    """Train ``run`` by ``count`` processes; without any GPU they share the CPU. Raises: SpecError."""
    there = torch.cuda.device_count()
    if 0 < there < count:
        raise SpecError(
            f"{count} GPUs are asked for, and this machine has {there}",
            field="train.gpus",
            remedy=f"at most {there}",
        )
    tail = _Tail(run / EVENTS, listener)
    with tempfile.TemporaryDirectory(prefix="kd-ranks-") as name:
        folder = Path(name)
        processes = [_start(run, folder, rank, count, profile=profile) for rank in range(count)]
        try:
            _watch(processes, stop_requested, tail)
            ended = [process.poll() for process in processes]
        finally:
            for process in processes:
                process.kill()
                process.wait()
        tail.tell()
        outcomes = [
            _outcome(outcome_file(folder, rank), status, asked=stop_requested())
            for rank, status in enumerate(ended)
        ]
    return _most_telling(outcomes)


def _start(
    run: Path, folder: Path, rank: int, count: int, *, profile: bool
) -> subprocess.Popen[bytes]:
    threads = max(1, (os.cpu_count() or 1) // count)
    # They are on one machine: its own name need not lead anywhere.
    usual = {"OMP_NUM_THREADS": str(threads), "GLOO_SOCKET_IFNAME": "lo"}
    arguments = [str(run), str(folder), str(rank), str(count), str(os.getpid())]
    return subprocess.Popen(
        [sys.executable, "-m", "kdcore.run.rank", *arguments, *([PROFILE_OPTION] * profile)],
        env={**usual, **os.environ},
    )


def _watch(
    processes: Sequence[subprocess.Popen[bytes]], stop_requested: Callable[[], bool], tail: "_Tail"
) -> None:
    """Until all have ended, or one has failed and the others had their time to see it."""
    told_to_stop = False
    deadline: float | None = None
    while any(process.poll() is None for process in processes):
        if stop_requested() and not told_to_stop:
            told_to_stop = True
            for process in processes:
                process.send_signal(signal.SIGTERM)
        if deadline is None and any(process.poll() not in _IN_ORDER for process in processes):
            deadline = time.monotonic() + GRACE_SECONDS
        if deadline is not None and time.monotonic() > deadline:
            return
        tail.tell()
        time.sleep(_TURN_SECONDS)


def _outcome(path: Path, status: int | None, *, asked: bool) -> Outcome | None:
    """What a rank left; else what its exit status means; None of one that was only waiting."""
    if path.exists():
        return Outcome.model_validate_json(path.read_bytes())
    if status is None:
        return None
    if asked and status in (-signal.SIGTERM, -signal.SIGINT):
        return Outcome(
            status="interrupted",
            failure=Failure(kind=FailureKind.INTERRUPTED, message="stopped before its first step"),
        )
    if status < 0:
        kind, how = FailureKind.TRAINER_KILLED, signal.Signals(-status).name
    else:
        kind, how = FailureKind.CODE_ERROR, f"exit status {status}"
    return Outcome(status="failed", failure=Failure(kind=kind, message=f"a rank ended by {how}"))


def _most_telling(outcomes: Sequence[Outcome | None]) -> Outcome:
    """The first rank's where all agree, else the one that made the others end."""
    known = [outcome for outcome in outcomes if outcome is not None]
    unsuccessful = [outcome for outcome in known if outcome.status != "succeeded"]
    for kinds in (set(FailureKind) - set(_CONSEQUENCES), *({kind} for kind in _CONSEQUENCES[::-1])):
        for outcome in unsuccessful:
            if outcome.failure is not None and outcome.failure.kind in kinds:
                return outcome
    return known[0]


class _Tail:
    """Events that the first rank has written since, for who listens in this process."""

    def __init__(self, path: Path, listener: Listener | None) -> None:
        self._path, self._listener = path, listener
        self._offset = path.stat().st_size if path.exists() else 0

    def tell(self) -> None:
        if self._listener is None or not self._path.exists():
            return
        with self._path.open("rb") as file:
            file.seek(self._offset)
            whole = file.read()
        whole = whole[: whole.rfind(b"\n") + 1]
        self._offset += len(whole)
        for line in whole.splitlines():
            self._listener(event_adapter.validate_json(line))

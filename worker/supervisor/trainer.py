"""A trainer as a child process, on its leash."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from worker.supervisor import leash
from worker.supervisor.clock import boottime

KILL_SECONDS = 10.0
"""The leash needs milliseconds; longer means that a process hangs inside the kernel."""


class Trainer:
    """Its exit status is that of `subprocess`: negative for a signal.

    Nothing here depends on the thread that starts a trainer: the lifeline ends with the process.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        log: Path,
        fence_seconds: float,
        environment: Mapping[str, str],
    ) -> None:
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [
                    *(sys.executable, "-I", "-S", leash.__file__),
                    *(str(fence_seconds), *command),
                ],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                bufsize=0,
                start_new_session=True,
                env=environment,
            )
        assert self._process.stdin is not None
        self._lifeline = self._process.stdin
        os.set_blocking(self._lifeline.fileno(), False)
        self._lifeline_lock = threading.Lock()  # a write must not meet a number that was closed

    @property
    def pid(self) -> int:
        """Of the leash, which leads the trainer's session and process group."""
        return self._process.pid

    def feed(self) -> None:
        """Tell the leash that the lease was confirmed."""
        # A full pipe means a stopped leash, a broken or closed one that it is over; `poll` says so.
        with self._lifeline_lock, suppress(BlockingIOError, BrokenPipeError, ValueError):
            self._lifeline.write(b".")

    def poll(self) -> int | None:
        """Exit status once the trainer and all its descendants have ended."""
        if self._process.returncode is None and self._has_ended():
            self._sweep()
        return self._process.returncode

    def terminate(self) -> None:
        """Ask the trainer to write a checkpoint and leave (SIGTERM)."""
        if self.poll() is None:
            self._process.send_signal(signal.SIGTERM)

    def kill(self) -> int:
        """End the trainer and all its descendants now; returns the exit status."""
        with self._lifeline_lock:
            self._lifeline.close()
        deadline = boottime() + KILL_SECONDS
        while self.poll() is None and boottime() < deadline:
            time.sleep(0.01)
        self._sweep()
        return self._process.wait()

    def _has_ended(self) -> bool:
        """Whether the leash has ended; unreaped, it keeps the number of its group taken."""
        ended = os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        return ended is not None

    def _sweep(self) -> None:
        """End what is left of the group: a leash that was killed itself could not do it."""
        if self._process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

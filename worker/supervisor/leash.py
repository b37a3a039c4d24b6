"""The leash: the small process between supervisor and trainer. It leaves no orphan behind.

Run as a script, without the rest of the package::

    python -I -S leash.py SECONDS COMMAND...

Standard input is the lifeline: the supervisor writes a byte each time the ledger confirmed the
lease. At its end (the supervisor is gone, however it died) or after SECONDS without a byte (the
supervisor hangs, is stopped, or has lost the ledger) the leash ends the trainer and all it started.

* SIGTERM is passed on to the trainer alone: its own helpers must live while it writes a checkpoint.
* The leash is a subreaper, so processes that outlive the trainer become its children and are
  killed, also when they left the process group.
* The trainer has PR_SET_PDEATHSIG: it dies with the leash. The signal comes when the *thread* that
  forked ends; the leash has one thread, which lives as long as it does.

It ends as the trainer ended: with its exit status, or by its signal.
"""

import ctypes
import os
import resource
import select
import signal
import sys
import time
from contextlib import suppress
from types import FrameType
from typing import NoReturn

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
LIFELINE = 0
STATUS_CANNOT_START = 127

_prctl = ctypes.CDLL(None, use_errno=True).prctl


def main(arguments: list[str]) -> NoReturn:
    seconds, command = float(arguments[0]), arguments[1:]
    _prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    wakeups = _catch_signals()
    trainer = _start(command)
    status = _watch(trainer, wakeups, seconds)
    _end_descendants()
    _leave(status)


def _catch_signals() -> int:
    """A descriptor that yields the number of each signal; handlers, unlike SIG_IGN, end at exec."""
    readable, writable = os.pipe()
    os.set_blocking(readable, False)
    os.set_blocking(writable, False)
    signal.set_wakeup_fd(writable, warn_on_full_buffer=False)
    for number in (signal.SIGTERM, signal.SIGCHLD):
        signal.signal(number, _noted)
    # The supervisor waits for its signals with a mask, which was inherited.
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    return readable


def _noted(number: int, frame: FrameType | None) -> None:
    """The wake-up descriptor carries the number to the loop."""


def _start(command: list[str]) -> int:
    leash = os.getpid()
    # A SIGTERM between fork and exec must reach the trainer, not the leash's handler in it.
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    trainer = os.fork()
    if trainer == 0:
        _become(command, leash)
    signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
    return trainer


def _become(command: list[str], leash: int) -> NoReturn:
    try:
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGTERM, signal.SIGCHLD, signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(number, signal.SIG_DFL)
        _prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != leash:
            os._exit(STATUS_CANNOT_START)  # it died before the request above
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, LIFELINE)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        os.execvp(command[0], command)  # noqa: S606 (no shell is what we want)
    except OSError as error:
        os.write(2, f"cannot start {command[0]}: {error.strerror}\n".encode())
    finally:
        os._exit(STATUS_CANNOT_START)


def _watch(trainer: int, wakeups: int, seconds: float) -> int | None:
    """The trainer's wait status; None once the lifeline has ended or was silent for too long."""
    deadline = _now() + seconds
    while True:
        ready, _, _ = select.select([LIFELINE, wakeups], [], [], max(0.0, deadline - _now()))
        if wakeups in ready:
            for number in os.read(wakeups, 4096):
                if number == signal.SIGTERM:
                    os.kill(trainer, signal.SIGTERM)
            status = _reap(trainer)
            if status is not None:
                return status
        if LIFELINE in ready:
            if not os.read(LIFELINE, 4096):
                return None
            deadline = _now() + seconds
        elif _now() >= deadline:
            return None


def _now() -> float:
    """Seconds that also pass while the machine sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def _reap(trainer: int) -> int | None:
    """Collect what has ended; the trainer's wait status if it is among them."""
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return None
        if pid == trainer:
            return status
        if pid == 0:
            return None


def _end_descendants() -> None:
    """Kill children until there are none; each that dies hands its own to the subreaper."""
    while True:
        for pid in _children():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return


def _children() -> list[int]:
    own = os.getpid()
    found = []
    for name in os.listdir("/proc"):  # noqa: PTH208 (pathlib doubles the start-up time)
        # A process may end between the listing and the reading.
        with suppress(OSError):
            if name.isdigit():
                with open(f"/proc/{name}/stat", "rb") as stat:  # noqa: PTH123
                    after_name = stat.read().rpartition(b")")[2].split()
                if int(after_name[1]) == own:
                    found.append(int(name))
    return found


def _leave(status: int | None) -> NoReturn:
    code = -signal.SIGKILL if status is None else os.waitstatus_to_exitcode(status)
    if code < 0:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # the trainer's core is enough
        if -code != signal.SIGKILL:
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code if code >= 0 else 128 - code)


if __name__ == "__main__":
    main(sys.argv[1:])

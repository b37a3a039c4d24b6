"""Runs one command and lets nothing of it outlive whoever asked for it.

    keeper.py [--signal N] [--grace S] [--orphan-grace S] [--user UID:GID] -- COMMAND...

Standard input is the leash. A line `stop` asks for an orderly end: the signal, and after the grace
SIGKILL for the command and all its descendants. End of file without it means that the owner died,
which a SIGKILL of the owner cannot prevent: the same with the orphan grace (0: at once).
SIGTERM to the keeper ends everything at once. The keeper ends with the command's exit status
(128 + N after signal N). Standard library only, so that a keeper costs 9 MB and 20 ms.

The worker's `leash.py` holds trainers in much the same way and is no second user of this file: silence
ends a trainer but not a service, SIGTERM is passed on there and ends all here, and it reports a death by
signal as one. What is left in common is a few lines of `prctl`, `waitpid` and `/proc`.
"""

import argparse
import contextlib
import ctypes
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
LINUX = sys.platform == "linux"


def main(arguments: list[str]) -> int:
    options = _options(arguments)
    wakeups = _wake_on_signals()
    if LINUX:
        # Whatever the command leaves behind becomes our child, and can be found and ended.
        _prctl(PR_SET_CHILD_SUBREAPER, 1)
    uid, gid = map(int, options.user.split(":")) if options.user else (None, None)
    child = subprocess.Popen(
        options.command,
        stdin=subprocess.DEVNULL,
        process_group=0,
        preexec_fn=_tie_to(os.getpid()) if LINUX else None,  # noqa: PLW1509 (one thread only)
        user=uid,
        group=gid,
        extra_groups=None if uid is None else [],
    )
    status = _watch(child.pid, options, wakeups)
    _end_all(child.pid)
    return status


def _watch(pid: int, options: argparse.Namespace, wakeups: int) -> int:
    deadline: float | None = None
    with selectors.DefaultSelector() as selector:
        selector.register(0, selectors.EVENT_READ)
        selector.register(wakeups, selectors.EVENT_READ)
        while True:
            timeout = None if deadline is None else max(0.0, deadline - time.monotonic())
            ready = {key.fd for key, _ in selector.select(timeout)}
            if wakeups in ready and signal.SIGTERM in os.read(wakeups, 4096):
                deadline = time.monotonic()
            status = _reap(pid)
            if status is not None:
                return status
            if 0 in ready:
                word = os.read(0, 4096)
                grace = options.grace if b"stop" in word else options.orphan_grace
                if not word:
                    selector.unregister(0)
                until = time.monotonic() + grace
                if deadline is None and grace > 0:
                    _send(pid, options.signal)
                deadline = until if deadline is None else min(deadline, until)
            if deadline is not None and time.monotonic() >= deadline:
                _end_all(pid)
                return _reap(pid, block=True) or 128 + signal.SIGKILL


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--signal", type=int, default=int(signal.SIGTERM))
    parser.add_argument("--grace", type=float, default=10.0)
    parser.add_argument("--orphan-grace", type=float, default=0.0)
    parser.add_argument("--user")
    parser.add_argument("command", nargs="+")
    return parser.parse_args(arguments)


def _wake_on_signals() -> int:
    """File descriptor that turns readable when a child ends or SIGTERM comes."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    # Handlers, not SIG_IGN: being ignored would be inherited by the command.
    for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: None)
    return reading


def _tie_to(keeper: int) -> Callable[[], None]:
    def before_exec() -> None:
        # After the change of user, which would clear it.
        _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != keeper:
            os._exit(1)

    return before_exec


def _reap(pid: int, *, block: bool = False) -> int | None:
    """Collects every ended child, adopted too; returns the exit status of `pid` if it ended."""
    status = None
    with contextlib.suppress(ChildProcessError):
        while status is None or not block:
            ended, raw = os.waitpid(pid if block else -1, 0 if block else os.WNOHANG)
            if ended == 0:
                break
            if ended == pid:
                code = os.waitstatus_to_exitcode(raw)
                status = code if code >= 0 else 128 - code
    return status


def _end_all(pid: int) -> None:
    """SIGKILL for everything below; repeated, since a process may fork while the list is read."""
    give_up = time.monotonic() + 5.0
    while time.monotonic() < give_up:
        left = _descendants() if LINUX else []
        if not LINUX:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(pid, signal.SIGKILL)
        for other in left:
            _send(other, signal.SIGKILL)
        if not left:
            return
        time.sleep(0.01)
        # The command itself stays a zombie for the caller to collect; others go here.
        for other in left:
            if other != pid:
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(other, os.WNOHANG)


def _descendants() -> list[int]:
    """Live processes below this one, from /proc."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                state, parent = (entry / "stat").read_bytes().rpartition(b")")[2].split()[:2]
                if state != b"Z":
                    children.setdefault(int(parent), []).append(int(entry.name))
    found = children.get(os.getpid(), [])
    for pid in found:
        found.extend(children.get(pid, []))
    return found


def _send(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)


def _prctl(option: int, value: int) -> None:
    ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

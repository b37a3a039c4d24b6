"""Whatever ends the owner, nothing that a keeper keeps is left."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from embedded.errors import ServiceDied
from embedded.process import Ending, Kept
from tests.embedded.waiting import all_gone, until

POLITE = """
import signal, sys
signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
print("up", flush=True)
signal.pause()
"""
STUBBORN = """
import signal
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("up", flush=True)
signal.pause()
"""
# A child in a session of its own, which no process group reaches.
BREEDING = """
import os, signal, subprocess, sys
pause = "import signal; signal.pause()"
child = subprocess.Popen([sys.executable, "-c", pause], start_new_session=True)
print(os.getpid(), child.pid, flush=True)
signal.pause()
"""
OWNER = """
import os, signal, sys
from pathlib import Path
from embedded.process import Ending, Kept
log, code, stop_first = sys.argv[1:]
kept = Kept("child", [sys.executable, "-c", code], log=Path(log), cwd=Path("."),
            environment=os.environ, ending=Ending(signal=0, grace=600))
if stop_first == "True":
    kept.ask_to_stop()
signal.pause()
"""


def kept(tmp_path: Path, code: str, ending: Ending | None = None) -> Kept:
    return Kept(
        "child",
        [sys.executable, "-c", code],
        log=tmp_path / "child.log",
        cwd=tmp_path,
        environment=os.environ,
        ending=ending or Ending(),
    )


def printed(tmp_path: Path) -> str:
    log = tmp_path / "child.log"
    until(lambda: log.exists() and log.read_text())
    return log.read_text()


def test_orderly_stop_lets_the_command_end_by_itself(tmp_path: Path) -> None:
    process = kept(tmp_path, POLITE)
    printed(tmp_path)
    assert process.stop() == 7


def test_what_ignores_the_signal_is_killed_after_the_grace(tmp_path: Path) -> None:
    process = kept(tmp_path, STUBBORN, Ending(grace=0.2))
    printed(tmp_path)
    assert process.stop() == 128 + signal.SIGKILL


def test_stop_ends_processes_that_the_command_left_behind(tmp_path: Path) -> None:
    process = kept(tmp_path, BREEDING)
    pids = [int(word) for word in printed(tmp_path).split()]
    process.stop()
    assert all_gone(pids)


def test_exit_status_and_output_come_through(tmp_path: Path) -> None:
    process = kept(tmp_path, "print('last words'); raise SystemExit(3)")
    assert process.wait() == 3
    with pytest.raises(ServiceDied, match="last words"):
        process.check()


def test_death_by_signal_shows_in_the_status(tmp_path: Path) -> None:
    process = kept(tmp_path, "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)")
    assert process.wait() == 128 + signal.SIGSEGV


def test_kill_does_not_wait_for_the_grace(tmp_path: Path) -> None:
    process = kept(tmp_path, STUBBORN, Ending(grace=600))
    printed(tmp_path)
    process.kill()
    assert process.wait() == 128 + signal.SIGKILL


@pytest.mark.parametrize("stop_first", [False, True], ids=["running", "while stopping"])
def test_owner_killed_leaves_no_process(tmp_path: Path, stop_first: bool) -> None:
    arguments = [str(tmp_path / "child.log"), BREEDING, str(stop_first)]
    owner = subprocess.Popen([sys.executable, "-c", OWNER, *arguments], start_new_session=True)
    pids = [int(word) for word in printed(tmp_path).split()]
    owner.kill()
    owner.wait()
    until(lambda: all_gone(pids))


def test_keeper_killed_takes_the_command_along(tmp_path: Path) -> None:
    process = kept(tmp_path, "import os, signal; print(os.getppid(), flush=True); signal.pause()")
    keeper = int(printed(tmp_path))
    os.kill(keeper, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    process.stop()


def test_stopping_what_has_ended_by_itself_is_no_error(tmp_path: Path) -> None:
    process = kept(tmp_path, "raise SystemExit(3)")
    until(lambda: process.status is not None)
    assert process.stop() == 3
    assert process.stop() == 3

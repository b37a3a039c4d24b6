"""A state folder whose stack does not outlive the test."""

import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from embedded.state import State


@pytest.fixture
def folder() -> Iterator[Path]:
    # Not below pytest's folder: each new run of pytest closes that one to other users, and where
    # the tests run as root, Postgres is another user.
    with tempfile.TemporaryDirectory(prefix="stillhouse-up-") as base:
        state = State(Path(base) / "state")
        yield state.folder
        running = state.running()
        if running and psutil.pid_exists(running.pid):
            os.kill(running.pid, signal.SIGKILL)

"""Processes of ours, marked in their environment: what they leave behind is found and known as ours."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

import psutil

MARK: Final = "STILLHOUSE_CHAOS"
"""Variable whose value is ``CLUSTER/NAME/LIFE/``; children inherit it, also trainers."""


class Child:
    """One process that is killed, stopped and started again under the same name."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        cluster: str,
        cwd: Path,
        environment: Mapping[str, str],
        log: Path,
    ) -> None:
        self.name = name
        self.log = log
        self._command = command
        self._cluster = cluster
        self._cwd = cwd
        # A setting of whoever runs the tests is none of theirs.
        inherited = {name: value for name, value in os.environ.items() if name[:3] != "KD_"}
        self._environment = {**inherited, **environment}
        self._life = 0
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def mark(self) -> str:
        """Of the present life, or of the last."""
        return f"{self._cluster}/{self.name}/{self._life}/"

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        assert not self.alive
        self._life += 1
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(
                self._command,
                cwd=self._cwd,
                env={**self._environment, MARK: self.mark},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )

    def send(self, number: signal.Signals) -> None:
        if self.alive and self._process is not None:
            self._process.send_signal(number)

    def kill(self) -> None:
        """SIGKILL, to this process alone."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def leave(self, seconds: float) -> int | None:
        """SIGTERM; the exit status, or None if it has not ended after so long."""
        assert self._process is not None
        self._process.terminate()
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None

    def family(self) -> list[psutil.Process]:
        """What lives of the present life, or is left of the last."""
        return marked(self.mark)


def marked(beginning: str) -> list[psutil.Process]:
    """Living processes whose mark begins so."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.environ().get(MARK, "").startswith(beginning):
                found.append(process)
    return found


def holds(condition: Callable[[], bool], *, seconds: float) -> bool:
    """Look until it holds; whether it did in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        port: int = found.getsockname()[1]
        return port

"""Servers beside Postgres that a cluster may have. A further one is a class and a row of `SERVICES`."""

import shutil
import socket
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, Protocol

from tests.chaos.children import free_port, holds
from tests.worker.tracking.server import MlflowServer


class Service(Protocol):
    """``environment`` leads API and workers to it; it stays the same when it is started again."""

    environment: Mapping[str, str]

    def start(self) -> None:
        """Until it answers."""
        ...

    def kill(self) -> None:
        """SIGKILL; its data stay."""
        ...


class Mlflow:
    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self._server = MlflowServer(folder)
        self.environment: Mapping[str, str] = {"KD_MLFLOW_URL": self._server.url}

    def start(self) -> None:
        self._server.start()
        self._server.wait()

    def kill(self) -> None:
        self._server.kill()


class Redis:
    """With it, workers are those of Celery, and beats send ticks and hints."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        program = shutil.which("redis-server")
        assert program is not None, "no redis-server on PATH"
        self._port = free_port()
        self._log = folder / "redis.log"
        self._command = [
            *(program, "--bind", "127.0.0.1", "--port", str(self._port), "--dir", str(folder)),
            *("--save", "", "--appendonly", "yes", "--maxmemory-policy", "noeviction"),
        ]
        self._process: subprocess.Popen[bytes] | None = None
        self.environment: Mapping[str, str] = {"KD_BROKER_URL": f"redis://127.0.0.1:{self._port}/0"}

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log)
        assert holds(lambda: self.ask("PING") == "+PONG", seconds=START_SECONDS), self._log

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def ask(self, command: str) -> str:
        """The first line of the reply; empty without one."""
        try:
            with socket.create_connection(("127.0.0.1", self._port), timeout=5.0) as connection:
                connection.sendall(f"{command}\r\n".encode())
                return connection.recv(4096).decode().partition("\r\n")[0]
        except OSError:
            return ""


START_SECONDS: Final = 30.0
SERVICES: Final[dict[str, Callable[[Path], Service]]] = {"mlflow": Mlflow, "redis": Redis}

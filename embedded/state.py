"""The state folder: all that the stack keeps on this machine, and who may use it now.

::

    .stillhouse/lock          held (flock) by the one `up` that runs
    .stillhouse/running.json  process id and addresses of that one
    .stillhouse/ports.json    ports kept across starts
    .stillhouse/postgres/     data/, socket/, secret
    .stillhouse/artifacts/    content-addressed artefacts of the jobs
    .stillhouse/mlflow/       artefacts of the MLflow server
    .stillhouse/runs/         run directories
    .stillhouse/reports/      verdicts that `demo` brought home
    .stillhouse/log/          one file a process
"""

import contextlib
import fcntl
import json
import os
import socket
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from embedded.errors import AlreadyRunning, NotReady

ROOT = Path(__file__).resolve().parent.parent
PORTS = {"api": 8000, "mlflow": 5000}
HOST = "127.0.0.1"


@dataclass(frozen=True)
class Running:
    """The stack that runs on a state folder."""

    pid: int
    api: str
    mlflow: str


@dataclass(frozen=True)
class State:
    folder: Path

    @classmethod
    def from_environment(cls) -> Self:
        return cls(Path(os.environ.get("KD_STATE", ROOT / ".stillhouse")).expanduser().resolve())

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """For one `up` at a time; raises AlreadyRunning. Freed by the kernel, however it ends."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                running = self.running()
                raise AlreadyRunning(
                    self.folder,
                    running.pid if running else None,
                    running.api if running else None,
                ) from None
            try:
                yield
            finally:
                self._running_file.unlink(missing_ok=True)

    def announce(self, running: Running) -> None:
        _write_json(self._running_file, asdict(running))

    def running(self) -> Running | None:
        try:
            return Running(**json.loads(self._running_file.read_text()))
        except FileNotFoundError:
            return None

    def ports(self) -> dict[str, int]:
        """Last time's ports where they are free, else the usual ones, else the next free ones."""
        file = self.folder / "ports.json"
        remembered = json.loads(file.read_text()) if file.exists() else {}
        chosen: dict[str, int] = {}
        for name, usual in PORTS.items():
            wanted = int(os.environ.get(f"KD_{name.upper()}_PORT", remembered.get(name, usual)))
            chosen[name] = _free_port(wanted, set(chosen.values()))
        _write_json(file, chosen)
        return chosen

    def log(self, name: str) -> Path:
        return self.folder / "log" / f"{name}.log"

    @property
    def _running_file(self) -> Path:
        return self.folder / "running.json"


def _free_port(start: int, taken: set[int]) -> int:
    for port in range(start, min(start + 200, 65536)):
        if port not in taken and _is_free(port):
            return port
    raise NotReady(f"no free port from {start} on {HOST}")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        # As the servers do: a connection in TIME_WAIT does not make a port taken.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
        return True


def _write_json(path: Path, value: object) -> None:
    partial = path.with_name(f"{path.name}.partial")
    partial.write_text(json.dumps(value, indent=2) + "\n")
    partial.replace(path)

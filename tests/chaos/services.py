"""Servers beside Postgres that a cluster may have. A further one is a class and a row of `SERVICES`."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, Protocol

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


SERVICES: Final[dict[str, Callable[[Path], Service]]] = {"mlflow": Mlflow}

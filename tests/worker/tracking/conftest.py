"""One MLflow server for all tests here: it takes a while to start."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.worker.supervisor.bench import Bench
from tests.worker.tracking.server import MlflowServer
from worker.artifacts import FolderStore
from worker.ledger import Ledger
from worker.tracking.environment import prepare

prepare()


@pytest.fixture(scope="session")
def mlflow_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    server = MlflowServer(tmp_path_factory.mktemp("mlflow"))
    server.start()
    yield server
    server.kill()


@pytest.fixture
def mlflow_server(mlflow_process: MlflowServer) -> MlflowServer:
    mlflow_process.wait()
    return mlflow_process


@pytest.fixture
def bench(ledger: Ledger, database_url: str, tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(ledger, database_url, tmp_path, FolderStore(tmp_path / "artifacts"))
    yield bench
    bench.close()

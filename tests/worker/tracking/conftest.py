"""One MLflow server for all tests here: it takes a while to start."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient

from tests.worker.supervisor.bench import Bench
from tests.worker.tracking.server import MlflowServer
from worker.artifacts import FolderStore
from worker.ledger import Ledger
from worker.tracking.duty import Duty
from worker.tracking.environment import prepare
from worker.tracking.projector import Projector

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


@pytest.fixture
def home(request: pytest.FixtureRequest) -> str:
    """An MLflow experiment for each test."""
    return str(request.node.name)


@pytest.fixture
def client(mlflow_server: MlflowServer) -> MlflowClient:
    return MlflowClient(tracking_uri=mlflow_server.url)


Projecting = Callable[..., Projector]


@pytest.fixture
def projecting(bench: Bench, home: str) -> Projecting:
    """Makes projectors onto the server at a URL."""

    def make(url: str, *, experiment: str = home, duty: Duty | None = None) -> Projector:
        return Projector(
            url,
            experiment,
            ledger=bench.ledger,
            store=bench.store,
            address="s3://bucket/prefix",
            duty=duty,
        )

    return make


@pytest.fixture
def projector(projecting: Projecting, mlflow_server: MlflowServer) -> Projector:
    return projecting(mlflow_server.url)

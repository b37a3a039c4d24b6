"""An API over a fresh database, a client of it, and small datasets to register."""

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from sqlalchemy import NullPool, create_engine, make_url

from api.dependencies import LOCAL_OWNER
from api.settings import Settings
from kdcore.spec import DatasetManifest, DatasetSource
from tests.api.documents import Json, distillation, source
from tests.api.serving import serve
from tests.api.working import Worker
from tests.conftest import TEMPLATE, create_database, drop_database
from worker.ledger import Ledger, datasets
from worker.ledger.datasets import Revision
from worker.ledger.tables import Base

SHARED = "stillhouse_test_api"
STANDING = "stillhouse_test_standing"
SCANNER = (sys.executable, str(Path(__file__).with_name("scripted_scanner.py")))


@pytest.fixture(scope="session")
def shared_database(postgres_server: str, postgres_url: str) -> Iterator[str]:
    server = make_url(postgres_server)
    create_database(server, SHARED, template=TEMPLATE)
    yield make_url(postgres_url).set(database=SHARED).render_as_string(hide_password=False)
    drop_database(server, SHARED)


@pytest.fixture
def database_url(shared_database: str) -> str:
    """One database for all tests of the API, emptied before each: quicker than making one."""
    engine = create_engine(shared_database, poolclass=NullPool)
    tables = ", ".join(Base.metadata.tables)
    with engine.begin() as connection:
        connection.exec_driver_sql(f"TRUNCATE {tables}")
    return shared_database


@pytest.fixture(scope="session")
def settings(shared_database: str, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return Settings(
        database_url=shared_database,
        artifacts_dir=tmp_path_factory.mktemp("artifacts"),
        dataset_roots=(tmp_path_factory.mktemp("datasets"),),
        scanner=SCANNER,
        scan_seconds=20,
        api_event_poll_seconds=0.05,
        api_heartbeat_seconds=0.2,
    )


@pytest.fixture(scope="session")
def served(settings: Settings) -> Iterator[httpx.Client]:
    with serve(settings) as client:
        yield client


@pytest.fixture
def client(served: httpx.Client, database_url: str) -> httpx.Client:
    """Of an API whose database is empty."""
    return served


@pytest.fixture
def roots(settings: Settings) -> Path:
    """The empty folder below which datasets may lie."""
    (folder,) = settings.dataset_roots
    shutil.rmtree(folder)
    folder.mkdir()
    return folder


@pytest.fixture(scope="session")
def standing(
    postgres_server: str, postgres_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[httpx.Client]:
    """An API with nothing in it, for tests that leave nothing behind."""
    create_database(make_url(postgres_server), STANDING, template=TEMPLATE)
    settings = Settings(
        database_url=make_url(postgres_url)
        .set(database=STANDING)
        .render_as_string(hide_password=False),
        artifacts_dir=tmp_path_factory.mktemp("artifacts"),
        dataset_roots=(tmp_path_factory.mktemp("datasets"),),
        scanner=SCANNER,
    )
    with serve(settings) as client:
        yield client
    drop_database(make_url(postgres_server), STANDING)


@pytest.fixture
def folder(roots: Path) -> Path:
    """Two tiny splits; the scripted scanner does not look into the files."""
    return make_dataset(roots / "tiny")


@pytest.fixture
def dataset(ledger: Ledger) -> Revision:
    """The dataset `tiny`, registered without a look at any file."""
    files = [
        {"path": f"{name}.png", "sha256": f"{n:064x}", "size": 1} for n, name in enumerate("im")
    ]
    sample = {"id": "0", "image": files[0], "mask": files[1], "height": 4, "width": 4}
    described = DatasetSource.model_validate(source("/tiny"))
    manifest = DatasetManifest.model_validate(
        {
            "classes": described.classes,
            "ignore_index": 255,
            "splits": {split: [sample] for split in ("train", "val", "test")},
            "statistics": {},
        }
    )
    with ledger.unit_of_work() as session:
        return datasets.register(session, owner=LOCAL_OWNER, source=described, manifest=manifest)[0]


@pytest.fixture
def experiment(client: httpx.Client, dataset: Revision) -> Json:
    """A submitted distillation: teacher, baseline, distilled, verdict."""
    answer = client.post("/v1/experiments", json=distillation())
    assert answer.status_code == 201, answer.text
    return answer.json()


@pytest.fixture
def worker(ledger: Ledger, settings: Settings, tmp_path: Path) -> Worker:
    return Worker(ledger, settings, tmp_path)


def make_dataset(root: Path, *, salt: str = "") -> Path:
    for split in ("train", "val", "test"):
        for kind in ("images", "masks"):
            (root / split / kind).mkdir(parents=True)
            for index in range(2):
                (root / split / kind / f"{index}.png").write_text(f"{split}{kind}{index}{salt}")
    return root

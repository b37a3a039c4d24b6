"""An API over a fresh database, a client of it, and small datasets to register."""

import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from sqlalchemy import make_url

from api.settings import Settings
from tests.api.documents import Json, distillation, source
from tests.api.serving import serve
from tests.conftest import TEMPLATE, create_database, drop_database
from worker.ledger import Ledger

STANDING = "stillhouse_test_standing"
SCANNER = (sys.executable, str(Path(__file__).with_name("scripted_scanner.py")))


@pytest.fixture
def roots(tmp_path: Path) -> Path:
    folder = tmp_path / "datasets"
    folder.mkdir()
    return folder


@pytest.fixture
def settings(database_url: str, tmp_path: Path, roots: Path) -> Settings:
    return Settings(
        database_url=database_url,
        artifacts_dir=tmp_path / "artifacts",
        dataset_roots=(roots,),
        scanner=SCANNER,
        scan_seconds=20,
        api_event_poll_seconds=0.05,
        api_heartbeat_seconds=0.2,
    )


@pytest.fixture
def client(settings: Settings) -> Iterator[httpx.Client]:
    with serve(settings) as client:
        yield client


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
def dataset(client: httpx.Client, folder: Path) -> Json:
    answer = client.post("/v1/datasets", json=source(folder))
    assert answer.status_code == 201, answer.text
    return answer.json()


@pytest.fixture
def experiment(client: httpx.Client, dataset: Json) -> Json:
    """A submitted distillation: teacher, baseline, distilled, verdict."""
    answer = client.post("/v1/experiments", json=distillation())
    assert answer.status_code == 201, answer.text
    return answer.json()


@pytest.fixture
def ledger_of(settings: Settings) -> Iterator[Ledger]:
    """The worker's view of the API's database."""
    ledger = Ledger(settings.database_url.get_secret_value())
    yield ledger
    ledger.close()


def make_dataset(root: Path, *, salt: str = "") -> Path:
    for split in ("train", "val", "test"):
        for kind in ("images", "masks"):
            (root / split / kind).mkdir(parents=True)
            for index in range(2):
                (root / split / kind / f"{index}.png").write_text(f"{split}{kind}{index}{salt}")
    return root

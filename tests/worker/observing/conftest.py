"""The bench of the supervisor: its workers are looked at from outside here."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.worker.supervisor.bench import Bench
from worker.artifacts import FolderStore
from worker.ledger import Ledger


@pytest.fixture
def bench(ledger: Ledger, database_url: str, tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(ledger, database_url, tmp_path, FolderStore(tmp_path / "artifacts"))
    yield bench
    bench.close()

"""A Redis and a bench for each test."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.worker.cluster.bench import ClusterBench
from tests.worker.cluster.broker import RedisServer
from worker.artifacts import FolderStore
from worker.ledger import Ledger


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path)
    server.start()
    yield server
    server.client.close()
    server.kill()


@pytest.fixture
def bench(
    ledger: Ledger, database_url: str, redis: RedisServer, tmp_path: Path
) -> Iterator[ClusterBench]:
    store = FolderStore(tmp_path / "artifacts")
    bench = ClusterBench(ledger, database_url, tmp_path, store, redis=redis, broker_url=redis.url)
    yield bench
    bench.close()

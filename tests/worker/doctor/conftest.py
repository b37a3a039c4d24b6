"""Settings of the test alone, and a Redis of its own."""

import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.services import redis_server
from tests.worker.supervisor.bench import until


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """The settings are those that a test gives."""
    for name in os.environ:
        if name.startswith("KD_") and not name.startswith("KD_TEST_"):
            monkeypatch.delenv(name)


@pytest.fixture
def redis_url(tmp_path: Path) -> Iterator[str]:
    program = redis_server()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    with subprocess.Popen(
        [program, "--port", str(port), "--bind", "127.0.0.1", "--dir", str(tmp_path)],
        stdout=subprocess.DEVNULL,
    ) as process:
        until(lambda: _listens(port))
        yield f"redis://127.0.0.1:{port}/0"
        process.kill()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0

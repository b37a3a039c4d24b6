"""A Postgres for all drills, and a folder that it can reach."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from embedded.errors import PostgresFailed
from embedded.postgres import Postgres


@pytest.fixture
def folder() -> Iterator[Path]:
    """Not below pytest's folder, which is closed to the other user that Postgres may be."""
    with tempfile.TemporaryDirectory(prefix="stillhouse-chaos-") as folder:
        yield Path(folder)


@pytest.fixture(scope="package")
def drill_postgres() -> Iterator[Postgres]:
    """Never struck, so it need not be durable."""
    with tempfile.TemporaryDirectory(prefix="stillhouse-chaos-") as folder:
        server = Postgres(Path(folder) / "postgres", durable=False)
        try:
            server.start()
        except PostgresFailed as error:
            if os.environ.get("CI"):
                raise
            pytest.skip(f"no Postgres here: {error}")
        yield server
        server.stop()

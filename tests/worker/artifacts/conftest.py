"""Both kinds of store: every test of the interface runs with each."""

from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from tests.services import S3Service, s3_service
from worker.artifacts import ArtifactStore, FolderStore
from worker.artifacts.s3 import S3Store


@pytest.fixture(scope="session")
def service() -> S3Service:
    return s3_service()


@pytest.fixture
def s3(service: S3Service) -> S3Store:
    """A store below a prefix of its own."""
    return S3Store(service.bucket, f"test-{uuid4().hex}", endpoint=service.endpoint)


@pytest.fixture(params=["folder", "s3"])
def store(request: Any, tmp_path: Path) -> ArtifactStore:
    if request.param == "folder":
        return FolderStore(tmp_path / "store")
    s3: S3Store = request.getfixturevalue("s3")
    return s3


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(b"content" * 1000)
    return path

"""Where the settings say that artefacts are."""

import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from worker.artifacts import FolderStore, StorageSettings, open_store


def test_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KD_ARTIFACTS_DIR", str(tmp_path / "store"))
    store = StorageSettings().open_store()
    assert isinstance(store, FolderStore)
    assert store.root == tmp_path / "store"


def test_a_bucket_comes_before_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from worker.artifacts.s3 import S3Store

    monkeypatch.setenv("KD_ARTIFACTS_DIR", str(tmp_path / "store"))
    monkeypatch.setenv("KD_ARTIFACTS_URL", "s3://bucket/some/where/")
    monkeypatch.setenv("KD_S3_ENDPOINT", "http://127.0.0.1:9")
    store = StorageSettings().open_store()
    assert isinstance(store, S3Store)
    assert store._at("ab" * 32) == {
        "Bucket": "bucket",
        "Key": f"some/where/sha256/ab/{'ab' * 32}",
    }
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize("address", ["s3://", "s3://B", "file:///x", "gs://bucket", "/folder"])
def test_other_addresses_are_refused(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setenv("KD_ARTIFACTS_URL", address)
    with pytest.raises(ValidationError, match="artifacts_url"):
        StorageSettings()


def test_somewhere_it_must_be(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValidationError, match="KD_ARTIFACTS_URL=s3://bucket/prefix"):
        StorageSettings()


def test_a_folder_needs_no_boto3(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom worker.artifacts import open_store\n"
        "open_store(sys.argv[1])\nassert 'boto3' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)
    assert open_store(str(tmp_path)).local

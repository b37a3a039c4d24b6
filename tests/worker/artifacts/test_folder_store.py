"""The folder store, with real files and a real full disk."""

import errno
import os
import subprocess
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest

from worker.artifacts import (
    ArtifactCorrupt,
    ArtifactMissing,
    FolderStore,
    StorageFull,
    StorageUnavailable,
    folder,
)
from worker.ledger import FileRef


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path / "store")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(b"content" * 1000)
    return path


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)],
        check=False,
        capture_output=True,
    )
    if mounted.returncode != 0:
        pytest.skip("no right to mount a small disk")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_what_is_put_can_be_fetched(store: FolderStore, file: Path, tmp_path: Path) -> None:
    ref = store.put(file)
    assert ref == FileRef(sha256(file.read_bytes()).hexdigest(), file.stat().st_size)
    store.fetch(ref, tmp_path / "deep" / "down" / "copy")
    assert (tmp_path / "deep" / "down" / "copy").read_bytes() == file.read_bytes()
    with store.open(ref) as opened:
        assert opened.read() == file.read_bytes()


def test_putting_twice_stores_once(store: FolderStore, file: Path) -> None:
    assert store.put(file) == store.put(file)
    assert len([path for path in store.root.rglob("*") if path.is_file()]) == 1


def test_putting_mends_a_rotten_content(store: FolderStore, file: Path, tmp_path: Path) -> None:
    ref = store.put(file)
    rot(store, ref)
    with pytest.raises(ArtifactCorrupt):
        store.fetch(ref, tmp_path / "copy")
    assert not (tmp_path / "copy").exists()
    store.put(file)
    store.fetch(ref, tmp_path / "copy")


def test_a_cut_content_is_corrupt(store: FolderStore, file: Path, tmp_path: Path) -> None:
    ref = store.put(file)
    os.truncate(store.root / "sha256" / ref.sha256[:2] / ref.sha256, ref.size - 1)
    with pytest.raises(ArtifactCorrupt):
        store.fetch(ref, tmp_path / "copy")
    assert list(tmp_path.glob(".copy*")) == []


def test_missing_content(store: FolderStore, tmp_path: Path) -> None:
    with pytest.raises(ArtifactMissing):
        store.fetch(FileRef("0" * 64, 1), tmp_path / "copy")
    with pytest.raises(ArtifactMissing):
        store.open(FileRef("0" * 64, 1))


def test_a_missing_source_is_not_the_stores_fault(store: FolderStore, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        store.put(tmp_path / "nothing")


def test_full_disk_leaves_nothing_behind(tiny_disk: Path, tmp_path: Path) -> None:
    store = FolderStore(tiny_disk / "store")
    large = tmp_path / "large"
    large.write_bytes(bytes(200_000))
    with pytest.raises(StorageFull):
        store.put(large)
    assert [path for path in store.root.rglob("*") if path.is_file()] == []
    roomy = FolderStore(tmp_path / "roomy")
    with pytest.raises(StorageFull):
        roomy.fetch(roomy.put(large), tiny_disk / "copy")
    assert not list(tiny_disk.glob("*copy*"))


def test_failing_storage(store: FolderStore, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(descriptor: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", fails)
    with pytest.raises(StorageUnavailable):
        store.put(file)
    assert [path for path in store.root.rglob("*") if path.is_file()] == []


def test_bytes_and_name_are_durable_before_put_returns(
    store: FolderStore, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    sync, replace = os.fsync, Path.replace

    def synced(descriptor: int) -> None:
        order.append("folder" if Path(f"/proc/self/fd/{descriptor}").is_dir() else "file")
        sync(descriptor)

    def replaced(path: Path, target: Path) -> Path:
        order.append("rename")
        return replace(path, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "replace", replaced)
    store.put(file)
    assert order == ["file", "folder", "rename", "folder"]


def test_leftovers_of_dead_writers_go(tmp_path: Path) -> None:
    tmp = FolderStore(tmp_path / "store").root / "tmp"
    (tmp / "old").touch()
    (tmp / "new").touch()
    os.utime(tmp / "old", (0, 0))
    FolderStore(tmp_path / "store")
    assert [path.name for path in tmp.iterdir()] == ["new"]
    assert folder.LEFTOVER_SECONDS > 3600


def rot(store: FolderStore, ref: FileRef) -> None:
    path = store.root / "sha256" / ref.sha256[:2] / ref.sha256
    content = bytearray(path.read_bytes())
    content[10] ^= 1
    path.write_bytes(content)

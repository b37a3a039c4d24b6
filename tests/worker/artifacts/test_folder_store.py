"""What is special about the folder store, with real files and a real full disk."""

import errno
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from worker.artifacts import (
    ArtifactCorrupt,
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

"""Disk, shared memory, and what is installed."""

from pathlib import Path

import pytest

from tests.worker.doctor.checking import found
from worker.doctor import disk, versions
from worker.doctor.findings import Level
from worker.doctor.numbers import release


def test_a_disk_with_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk, "SHARED_MEMORY_BYTES", 0)
    messages, _ = found(disk.check_disk, work_dir=tmp_path / "not" / "yet", reserve_bytes=1)
    assert messages.keys() == {Level.OK}
    assert f"free below {tmp_path}" in messages[Level.OK]


def test_a_disk_without(tmp_path: Path) -> None:
    messages, remedies = found(disk.check_disk, work_dir=tmp_path, reserve_bytes=1 << 60)
    assert "trainings keep 1073741824.0 GiB free" in messages[Level.ERROR]
    assert "KD_RESERVE_BYTES" in str(remedies[Level.ERROR])


def test_little_shared_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk, "SHARED_MEMORY_BYTES", 1 << 60)
    _, remedies = found(disk.check_disk, work_dir=tmp_path)
    assert "--shm-size" in str(remedies[Level.WARNING])


def test_no_folder_for_runs() -> None:
    assert found(disk.check_disk)[0][Level.ERROR] == "KD_WORK_DIR is not set"


def test_versions(monkeypatch: pytest.MonkeyPatch) -> None:
    assert found(versions.check_versions)[0].keys() == {Level.OK}
    monkeypatch.setattr(versions, "FLOORS", {"sqlalchemy": "99.1", "no-such-package": "1"})
    assert "is older than 99.1" in found(versions.check_versions)[0][Level.ERROR]


@pytest.mark.parametrize(
    ("version", "numbers"),
    [
        ("2.11.0+cu128", (2, 11, 0)),
        ("3.17.2.dev0", (3, 17, 2)),
        ("16.4 (Debian)", (16, 4)),
        ("x", ()),
    ],
)
def test_release_numbers(version: str, numbers: tuple[int, ...]) -> None:
    assert release(version) == numbers

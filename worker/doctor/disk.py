"""Room for run directories, artefacts, and what data loaders share."""

import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from worker.doctor.findings import Finding, error, ok, warning
from worker.doctor.numbers import gibibytes
from worker.doctor.settings import DoctorSettings

SHARED_MEMORY: Final = Path("/dev/shm")  # noqa: S108 (where the kernel has it)
SHARED_MEMORY_BYTES: Final = 256 << 20
FREE_INODES: Final = 0.01


def check_disk(settings: DoctorSettings) -> Iterable[Finding]:
    if settings.work_dir is None:
        yield error("KD_WORK_DIR is not set", "Set it to a folder on a local disk.")
    folders = {"KD_WORK_DIR": settings.work_dir, "KD_ARTIFACTS_DIR": settings.artifacts_dir}
    for name, folder in folders.items():
        if folder is not None:
            yield from _folder(name, folder, settings.reserve_bytes)
    yield from _shared_memory(SHARED_MEMORY)


def _folder(name: str, folder: Path, reserve_bytes: int) -> Iterator[Finding]:
    standing = next((path for path in (folder, *folder.parents) if path.exists()), Path("/"))
    if not os.access(standing, os.W_OK):
        yield error(
            f"{name}: {standing} belongs to somebody else",
            f"Give it to the user with id {os.getuid()}, or set another folder.",
        )
        return
    free = shutil.disk_usage(standing).free
    if free < reserve_bytes:
        yield error(
            f"{name}: {gibibytes(free)} are free below {standing}, trainings keep "
            f"{gibibytes(reserve_bytes)} free",
            "Make room, set another folder, or lower KD_RESERVE_BYTES.",
        )
    else:
        yield ok(f"{name}: {gibibytes(free)} are free below {standing}")
    status = os.statvfs(standing)
    if status.f_files and status.f_favail < FREE_INODES * status.f_files:
        yield error(
            f"{name}: {status.f_favail} more files fit on the file system of {standing}",
            "Delete small files, or use a file system with more inodes.",
        )


def _shared_memory(folder: Path) -> Iterator[Finding]:
    if not folder.is_dir():
        return
    size = shutil.disk_usage(folder).total
    if size < SHARED_MEMORY_BYTES:
        yield warning(
            f"{folder} has {size >> 20} MiB: data loaders of a training may die for lack of it",
            "Start the container with --shm-size=1g (compose: shm_size: 1g).",
        )

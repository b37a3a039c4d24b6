"""Copying and verifying contents on local disks."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO, Final
from uuid import uuid4

from worker.artifacts.errors import ArtifactCorrupt, StorageFull, StorageUnavailable
from worker.ledger.files import FileRef

BLOCK_BYTES: Final = 4 << 20


def copy(source: BinaryIO, target: BinaryIO) -> FileRef:
    """Copy and digest in one pass, so that the digest is of what was written."""
    state, size = sha256(), 0
    while block := source.read(BLOCK_BYTES):
        state.update(block)
        size += len(block)
        target.write(block)
    return FileRef(sha256=state.hexdigest(), size=size)


def copy_verified(source: BinaryIO, ref: FileRef, destination: Path) -> None:
    """``destination`` appears whole or not at all.

    Raises `ArtifactCorrupt`, `StorageFull`, `StorageUnavailable`, and what reading raises.
    """
    tmp = destination.with_name(f".{destination.name}.{uuid4().hex}")
    with disk_errors(destination.parent):
        try:
            destination.parent.mkdir(parents=True, exist_ok=True)
            with tmp.open("xb") as target:
                found = copy(source, target)
            if found != ref:
                raise ArtifactCorrupt(ref.sha256, found.sha256)
            tmp.replace(destination)
        finally:
            tmp.unlink(missing_ok=True)


@contextmanager
def disk_errors(where: Path) -> Iterator[None]:
    """`OSError` as `StorageFull` or `StorageUnavailable`."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageFull(
                f"no space left in {where}", remedy=f"free space in {where}"
            ) from error
        raise StorageUnavailable(f"{where}: {error.strerror or error}") from error

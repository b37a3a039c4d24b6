"""An artefact store in a local (or mounted) folder."""

import errno
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO
from uuid import uuid4

from worker.artifacts.errors import (
    ArtifactCorrupt,
    ArtifactMissing,
    StorageFull,
    StorageUnavailable,
)
from worker.artifacts.store import ArtifactStore
from worker.ledger.files import FileRef

BLOCK_BYTES = 1 << 20
LEFTOVER_SECONDS = 86_400
"""A temporary file of this age belongs to a writer that died."""


class FolderStore(ArtifactStore):
    """``root/sha256/ab/abcdef…``, each file written beside (`root/tmp`) and moved into place."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._tmp = root / "tmp"
        with _storage_errors(root):
            self._tmp.mkdir(parents=True, exist_ok=True)
            (root / "sha256").mkdir(exist_ok=True)
            _remove_leftovers(self._tmp)

    def put(self, path: Path) -> FileRef:
        with path.open("rb") as source:
            tmp = self._tmp / uuid4().hex
            try:
                return self._store(source, tmp)
            finally:
                tmp.unlink(missing_ok=True)

    def fetch(self, ref: FileRef, destination: Path) -> None:
        tmp = destination.with_name(f".{destination.name}.{uuid4().hex}")
        with self.open(ref) as source, _storage_errors(destination.parent):
            try:
                destination.parent.mkdir(parents=True, exist_ok=True)
                with tmp.open("xb") as target:
                    found = _copy(source, target)
                if found != ref:
                    raise ArtifactCorrupt(ref.sha256, found.sha256)
                tmp.replace(destination)
            finally:
                tmp.unlink(missing_ok=True)

    def open(self, ref: FileRef) -> BinaryIO:
        with _storage_errors(self.root):
            try:
                return self._path(ref.sha256).open("rb")
            except FileNotFoundError:
                raise ArtifactMissing(ref.sha256) from None

    def _store(self, source: BinaryIO, tmp: Path) -> FileRef:
        with _storage_errors(self.root):
            with tmp.open("xb") as target:
                ref = _copy(source, target)
                target.flush()
                os.fsync(target.fileno())
            final = self._path(ref.sha256)
            if not final.parent.is_dir():
                final.parent.mkdir(parents=True, exist_ok=True)
                _sync_folder(final.parent.parent)
            # Also when it is there already: a file that rotted is mended by being put again.
            tmp.replace(final)
            _sync_folder(final.parent)
        return ref

    def _path(self, digest: str) -> Path:
        return self.root / "sha256" / digest[:2] / digest


def _copy(source: BinaryIO, target: BinaryIO) -> FileRef:
    """Copy and digest in one pass, so that the digest is of what was written."""
    state, size = sha256(), 0
    while block := source.read(BLOCK_BYTES):
        state.update(block)
        size += len(block)
        target.write(block)
    return FileRef(sha256=state.hexdigest(), size=size)


def _sync_folder(folder: Path) -> None:
    """Make a rename durable: it is an entry of the folder, not of the file."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove_leftovers(folder: Path) -> None:
    for path in folder.iterdir():
        # Another process may sweep at the same moment.
        with suppress(FileNotFoundError):
            if time.time() - path.stat().st_mtime > LEFTOVER_SECONDS:
                path.unlink()


@contextmanager
def _storage_errors(where: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageFull(f"no space left in {where}") from error
        raise StorageUnavailable(f"{where}: {error.strerror or error}") from error

"""An artefact store in a local (or mounted) folder."""

import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Final
from uuid import uuid4

from worker.artifacts.copying import copy, copy_verified, disk_errors
from worker.artifacts.errors import ArtifactMissing
from worker.artifacts.store import ArtifactStore, Content
from worker.ledger.files import FileRef

LEFTOVER_SECONDS: Final = 86_400
"""A temporary file of this age belongs to a writer that died."""
STORED: Final = "sha256"
DROPPED: Final = "dropped"


class FolderStore(ArtifactStore):
    """``root/sha256/ab/abcdef…``, each file written beside (`root/tmp`) and moved into place."""

    local = True

    def __init__(self, root: Path) -> None:
        self.root = root
        self._tmp = root / "tmp"
        with disk_errors(root):
            self._tmp.mkdir(parents=True, exist_ok=True)
            for area in (STORED, DROPPED):
                (root / area).mkdir(exist_ok=True)
        self.clean_up(older_seconds=LEFTOVER_SECONDS)

    def put(self, path: Path) -> FileRef:
        with path.open("rb") as source:
            tmp = self._tmp / uuid4().hex
            try:
                return self._store(source, tmp)
            finally:
                tmp.unlink(missing_ok=True)

    def fetch(self, ref: FileRef, destination: Path) -> None:
        with self.open(ref) as source:
            copy_verified(source, ref, destination)

    def open(self, ref: FileRef) -> BinaryIO:
        with disk_errors(self.root):
            # Twice: it may be restored just between the two looks.
            for area in (STORED, DROPPED, STORED):
                with suppress(FileNotFoundError):
                    return self._path(ref.sha256, area).open("rb")
        raise ArtifactMissing(ref.sha256)

    def link(self, ref: FileRef, name: str) -> str | None:  # noqa: ARG002 (there is none)
        return None

    def check(self) -> None:
        with disk_errors(self.root), tempfile.TemporaryFile(dir=self._tmp) as file:
            file.write(b"ready")

    def contents(self, shard: str, *, dropped: bool = False) -> Iterator[Content]:
        now = time.time()
        with disk_errors(self.root):
            for path in (self.root / (DROPPED if dropped else STORED)).glob(f"{shard}*/*"):
                # Another process may sweep at the same moment.
                with suppress(FileNotFoundError):
                    yield Content(path.name, now - path.stat().st_mtime)

    def drop(self, sha256: str) -> None:
        self._move(sha256, STORED, DROPPED)

    def restore(self, sha256: str) -> None:
        self._move(sha256, DROPPED, STORED)

    def erase(self, sha256: str) -> None:
        with disk_errors(self.root):
            self._path(sha256, DROPPED).unlink(missing_ok=True)

    def clean_up(self, *, older_seconds: float) -> int:
        removed = 0
        with disk_errors(self._tmp):
            for path in self._tmp.iterdir():
                # Another process may sweep at the same moment.
                with suppress(FileNotFoundError):
                    if time.time() - path.stat().st_mtime > older_seconds:
                        path.unlink()
                        removed += 1
        return removed

    def _store(self, source: BinaryIO, tmp: Path) -> FileRef:
        with disk_errors(self.root):
            with tmp.open("xb") as target:
                ref = copy(source, target)
                target.flush()
                os.fsync(target.fileno())
            # Also when it is there already: a file that rotted is mended by being put again, and
            # one that is about to be swept is young again.
            self._place(tmp, self._path(ref.sha256, STORED))
        return ref

    def _move(self, sha256: str, source: str, target: str) -> None:
        with disk_errors(self.root), suppress(FileNotFoundError):
            path = self._path(sha256, source)
            # Its age starts anew, and before the move: a crash in between only delays.
            os.utime(path)
            self._place(path, self._path(sha256, target))

    def _place(self, path: Path, final: Path) -> None:
        if not final.parent.is_dir():
            final.parent.mkdir(parents=True, exist_ok=True)
            _sync_folder(final.parent.parent)
        path.replace(final)
        _sync_folder(final.parent)

    def _path(self, digest: str, area: str) -> Path:
        return self.root / area / digest[:2] / digest


def _sync_folder(folder: Path) -> None:
    """Make a rename durable: it is an entry of the folder, not of the file."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

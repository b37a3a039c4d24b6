"""Local copies of stored files, shared by the runs of this machine."""

import shutil
from hashlib import file_digest
from pathlib import Path

from worker.artifacts import ArtifactStore
from worker.ledger.files import FileRef


class BlobCache:
    """``root/ab/abcdef…``. Each file is digested once by this process, and again if it was touched.

    Runs see the files through symbolic links, so a dataset lies on the disk once.
    """

    def __init__(self, root: Path, store: ArtifactStore) -> None:
        self.root = root
        self._store = store
        self._verified: dict[str, _Stamp] = {}

    def get(self, ref: FileRef) -> Path:
        """A verified local copy; raises what `ArtifactStore.fetch` raises."""
        path = self._path(ref)
        if self.holds(ref):
            return path
        if not path.exists() or not _holds(path, ref):
            self._store.fetch(ref, path)
        self._verified[ref.sha256] = _stamp(path)
        return path

    def holds(self, ref: FileRef) -> bool:
        """Whether `get` has the file here already, by its name and its stamp alone."""
        stamp = _stamp(self._path(ref))
        return stamp is not None and stamp == self._verified.get(ref.sha256)

    def missing_bytes(self, refs: set[FileRef]) -> int:
        """What `get` would have to bring."""
        return sum(ref.size for ref in refs if not self._path(ref).exists())

    def free_bytes(self) -> int:
        self.root.mkdir(parents=True, exist_ok=True)
        return shutil.disk_usage(self.root).free

    def drop(self, *, but: set[str]) -> None:
        """Remove every copy whose digest is not in ``but``."""
        for path in self.root.glob("*/*"):
            if path.name not in but:
                path.unlink(missing_ok=True)

    def _path(self, ref: FileRef) -> Path:
        return self.root / ref.sha256[:2] / ref.sha256


_Stamp = tuple[int, int, int, int] | None


def _stamp(path: Path) -> _Stamp:
    """Changes whenever somebody writes to the file; None if there is none."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _holds(path: Path, ref: FileRef) -> bool:
    if path.stat().st_size != ref.size:
        return False
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest() == ref.sha256

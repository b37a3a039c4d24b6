"""The interface of an artefact store."""

from pathlib import Path
from typing import BinaryIO, Protocol

from worker.ledger.files import FileRef


class ArtifactStore(Protocol):
    """Content-addressed files: what was once put never changes, equal names are equal bytes."""

    def put(self, path: Path) -> FileRef:
        """Store the bytes ``path`` has now; durable when this returns. Again, it changes nothing.

        Raises `StorageFull`, `StorageUnavailable`; `OSError` if ``path`` itself cannot be read.
        """
        ...

    def fetch(self, ref: FileRef, destination: Path) -> None:
        """Copy the content to ``destination``, which appears whole and verified or not at all.

        Raises `ArtifactMissing`, `ArtifactCorrupt`, `StorageFull`, `StorageUnavailable`.
        """
        ...

    def open(self, ref: FileRef) -> BinaryIO:
        """The content for reading, unverified. Raises `ArtifactMissing`, `StorageUnavailable`."""
        ...

"""The interface of an artefact store."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final, Protocol

from worker.ledger.files import FileRef

FRESH_SECONDS: Final = 3600.0
"""A store may skip what it was given within this time; older content gets a new age with each put."""


@dataclass(frozen=True)
class Content:
    """``age_seconds`` since it was put, dropped or restored, on the clock of the store."""

    sha256: str
    age_seconds: float


class ArtifactStore(Protocol):
    """Content-addressed files: what was once put never changes, equal names are equal bytes.

    All methods but `put`, `fetch` and `open` are for those who look after the store. Whoever puts
    a content and then makes it known has the time between `FRESH_SECONDS` and the grace of the
    sweep (`worker.maintenance.storage`) to do so.
    """

    local: bool
    """On a disk of this machine: its failure is the machine's, not an outage that passes."""

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
        """The content for reading and seeking, unverified.

        Raises `ArtifactMissing`, `StorageUnavailable`; so does reading.
        """
        ...

    def link(self, ref: FileRef, name: str) -> str | None:
        """An address that yields the content for some minutes, to be saved under ``name``.

        None if the store cannot be reached but through this process. Raises as `open`.
        """
        ...

    def check(self) -> None:
        """Answers soon. Raises `StorageUnavailable`, `StorageFull`."""
        ...

    def contents(self, shard: str, *, dropped: bool = False) -> Iterator[Content]:
        """What is stored under names that start with ``shard``, one hex digit, or was dropped.

        Raises `StorageUnavailable`; so do those below.
        """
        ...

    def drop(self, sha256: str) -> None:
        """Put the content aside: it can still be read, until it is erased."""
        ...

    def restore(self, sha256: str) -> None:
        """Undo `drop`."""
        ...

    def erase(self, sha256: str) -> None:
        """Remove a dropped content for good; one that was put again meanwhile stays."""
        ...

    def clean_up(self, *, older_seconds: float) -> int:
        """Remove what writers that died left unfinished so long ago; how many there were."""
        ...

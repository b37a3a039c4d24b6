"""What an artefact store refuses.

::

    ArtifactError
    ├── ArtifactMissing     no such content in the store
    ├── ArtifactCorrupt     the stored bytes are not what their name says
    ├── StorageFull         no room where the bytes should go
    └── StorageUnavailable  the storage itself fails: input/output errors, permissions, outages
"""


class ArtifactError(Exception):
    """``message`` says it in words, ``remedy`` what to do about it; nothing in them is secret."""

    def __init__(self, message: str, *, remedy: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy


class ArtifactMissing(ArtifactError):
    def __init__(self, sha256: str) -> None:
        super().__init__(f"the store has no content {sha256}")
        self.sha256 = sha256


class ArtifactCorrupt(ArtifactError):
    def __init__(self, sha256: str, found: str) -> None:
        super().__init__(f"the stored content {sha256} has digest {found}")
        self.sha256 = sha256
        self.found = found


class StorageFull(ArtifactError):
    pass


class StorageUnavailable(ArtifactError):
    pass

"""Where files live by their content: what a run makes, and what it is given."""

from worker.artifacts.errors import (
    ArtifactCorrupt,
    ArtifactError,
    ArtifactMissing,
    StorageFull,
    StorageUnavailable,
)
from worker.artifacts.folder import FolderStore
from worker.artifacts.store import ArtifactStore

__all__ = [
    "ArtifactCorrupt",
    "ArtifactError",
    "ArtifactMissing",
    "ArtifactStore",
    "FolderStore",
    "StorageFull",
    "StorageUnavailable",
]

"""Where files live by their content: what a run makes, and what it is given."""

from worker.artifacts.errors import (
    ArtifactCorrupt,
    ArtifactError,
    ArtifactMissing,
    StorageFull,
    StorageUnavailable,
)
from worker.artifacts.folder import FolderStore
from worker.artifacts.opening import StorageSettings, open_store
from worker.artifacts.store import ArtifactStore, Content

__all__ = [
    "ArtifactCorrupt",
    "ArtifactError",
    "ArtifactMissing",
    "ArtifactStore",
    "Content",
    "FolderStore",
    "StorageFull",
    "StorageSettings",
    "StorageUnavailable",
    "open_store",
]

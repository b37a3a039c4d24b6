"""Putting a checkpoint from a run directory into the artefact store."""

import json
from pathlib import Path

from kdcore.spec import rundir
from kdcore.spec.events import CheckpointWritten
from worker.artifacts import ArtifactStore
from worker.ledger.files import FileRef


class CheckpointUnusable(Exception):
    """It is torn, rotten, or already removed by the trainer; an older or a newer one must do."""


def store_checkpoint(
    run: Path, event: CheckpointWritten, store: ArtifactStore
) -> dict[str, FileRef]:
    """Store the files its manifest names, then the manifest: run-directory path to content.

    Raises CheckpointUnusable, or what `ArtifactStore.put` raises.
    """
    folder = run / event.path
    try:
        manifest = json.loads((folder / rundir.CHECKPOINT_MANIFEST).read_bytes())
        promised = {Path(name).name: entry["sha256"] for name, entry in manifest["files"].items()}
        stored = {}
        for name, sha256 in promised.items():
            ref = store.put(folder / name)
            if ref.sha256 != sha256:
                raise CheckpointUnusable(f"{name} is not what the manifest says")
            stored[f"{event.path}/{name}"] = ref
        manifest_path = f"{event.path}/{rundir.CHECKPOINT_MANIFEST}"
        stored[manifest_path] = store.put(run / manifest_path)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointUnusable(str(error)) from error
    return stored

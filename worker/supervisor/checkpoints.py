"""Putting a checkpoint into the artefact store."""

import json
from pathlib import Path

from kdcore.spec import rundir
from worker.artifacts import ArtifactStore
from worker.ledger.files import FileRef


class CheckpointUnusable(Exception):
    """It is torn, rotten, or already removed by the trainer; an older or a newer one must do."""


def store_checkpoint(folder: Path, path: str, store: ArtifactStore) -> dict[str, FileRef]:
    """Store the files that the manifest in ``folder`` names, then the manifest.

    They are returned below ``path``, where the checkpoint was in the run directory. Raises
    CheckpointUnusable, or what `ArtifactStore.put` raises.
    """
    try:
        manifest = json.loads((folder / rundir.CHECKPOINT_MANIFEST).read_bytes())
        promised = {Path(name).name: entry["sha256"] for name, entry in manifest["files"].items()}
        stored = {}
        for name, sha256 in promised.items():
            ref = store.put(folder / name)
            if ref.sha256 != sha256:
                raise CheckpointUnusable(f"{name} is not what the manifest says")
            stored[f"{path}/{name}"] = ref
        last = store.put(folder / rundir.CHECKPOINT_MANIFEST)
        stored[f"{path}/{rundir.CHECKPOINT_MANIFEST}"] = last
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointUnusable(str(error)) from error
    return stored

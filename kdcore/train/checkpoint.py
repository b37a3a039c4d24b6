"""Checkpoints: a folder a step, complete when its manifest is there, checked before it is used."""

import json
import logging
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from kdcore.files import sha256_of, write_atomically, write_text
from kdcore.spec.rundir import CHECKPOINT_MANIFEST, CHECKPOINTS, checkpoint_folder

KEEP = 2
_STATE = "state.pt"
_log = logging.getLogger(__name__)


def save_checkpoint(run: Path, step: int, state: dict[str, Any]) -> str:
    """Write the checkpoint after ``step`` steps and drop all but the newest two.

    Returns its run-directory path. Raises: DiskFull; older checkpoints are untouched then.
    """
    relative = checkpoint_folder(step)
    folder = run / relative
    folder.mkdir(parents=True, exist_ok=True)
    # A manifest of an earlier writing of this step must not vouch for the new content.
    (folder / CHECKPOINT_MANIFEST).unlink(missing_ok=True)
    write_atomically(folder / _STATE, lambda path: _save(state, path))
    manifest = {
        "step": step,
        "files": {
            _STATE: {
                "sha256": sha256_of(folder / _STATE),
                "size": (folder / _STATE).stat().st_size,
            }
        },
    }
    write_text(folder / CHECKPOINT_MANIFEST, json.dumps(manifest, indent=2))
    for old in list(_newest_first(run))[KEEP:]:
        shutil.rmtree(old, ignore_errors=True)
    return relative


def load_checkpoint(run: Path, *, device: torch.device) -> dict[str, Any] | None:
    """State of the newest intact checkpoint, or None; torn and rotten ones are removed."""
    for folder in _newest_first(run):
        problem = _problem(folder)
        if problem is None:
            state: dict[str, Any] = torch.load(
                folder / _STATE, map_location=device, weights_only=True
            )
            return state
        _log.warning("checkpoint %s removed: %s", folder.name, problem)
        shutil.rmtree(folder, ignore_errors=True)  # lest it count among those to keep
    return None


def _save(state: dict[str, Any], path: Path) -> None:
    # Given a path, torch says of a full disk no more than "unexpected pos".
    with path.open("wb") as file:
        torch.save(state, file)


def _newest_first(run: Path) -> Iterator[Path]:
    folders = (run / CHECKPOINTS).glob("step-*")
    return iter(sorted((folder for folder in folders if folder.is_dir()), reverse=True))


def _problem(folder: Path) -> str | None:
    try:
        manifest = json.loads((folder / CHECKPOINT_MANIFEST).read_bytes())
        files = dict(manifest["files"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        return f"no usable manifest ({error})"
    if _STATE not in files:
        return "the manifest names no state"
    for name, entry in files.items():
        path = folder / Path(name).name
        if not path.is_file() or sha256_of(path) != entry.get("sha256"):
            return f"{name} is not what the manifest says"
    return None

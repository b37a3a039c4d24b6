"""Which folders of the server a request may name."""

import os
from collections.abc import Sequence
from pathlib import Path

from api.problems import FieldError, Refusal, Slug


def resolve_root(root: str, allowed: Sequence[Path]) -> Path:
    """The real path of ``root``, which lies in one of the ``allowed`` folders.

    A relative ``root`` is looked for below each of them. The refusal is the same whether or not the
    folder exists, so that nobody can ask for the names of folders elsewhere.
    """
    if not allowed:
        raise _refuse("This server has no dataset roots.", "Start it with KD_DATASET_ROOTS set.")
    for folder in allowed:
        try:
            path = Path(os.path.realpath(folder / root))
            found = stays_below_one(path, allowed) and path.is_dir()
        except (OSError, ValueError):
            # Too long a name, a loop of links, a NUL: no folder of ours.
            continue
        if found:
            return path
    raise _refuse(
        "No folder of this name lies below the dataset roots of the server.",
        "Put the dataset below one of the folders in KD_DATASET_ROOTS.",
    )


def stays_below_one(path: Path, allowed: Sequence[Path]) -> bool:
    """Whether ``path`` really lies in one of the ``allowed`` folders, links followed."""
    real = Path(os.path.realpath(path))
    return any(real.is_relative_to(os.path.realpath(folder)) for folder in allowed)


def _refuse(message: str, remedy: str) -> Refusal:
    error = FieldError(
        location="body", pointer="/root", field="root", detail=message, remedy=remedy
    )
    return Refusal(Slug.INVALID_SPEC, f"root: {message}", errors=[error])

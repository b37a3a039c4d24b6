"""A copy of the product without one of its safeguards, so that the oracle can be seen to notice."""

import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.worker.supervisor.bench import ROOT

PACKAGES: Final = ("api", "kdcore", "migrations", "worker")


@dataclass(frozen=True)
class Removal:
    """In the files of ``glob`` all that matches ``pattern`` becomes ``instead``."""

    glob: str
    pattern: str
    instead: str = ""


def patched(destination: Path, removals: tuple[Removal, ...]) -> Path:
    """The copy's root. Fails when a removal finds nothing: the safeguard has moved."""
    for package in PACKAGES:
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / package, destination / package, ignore=ignored)
    for removal in removals:
        found = 0
        for path in sorted(destination.glob(removal.glob)):
            code, count = re.subn(removal.pattern, removal.instead, path.read_text())
            path.write_text(code)
            found += count
        assert found, f"nothing in {removal.glob} is like {removal.pattern}"
    return destination

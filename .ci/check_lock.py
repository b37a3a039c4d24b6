"""Is the lock fresh? Every direct dependency of pyproject.toml is pinned there, within its bounds.

Needs no network. `make lock` makes a new lock.
"""

import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
PIN = re.compile(r"^([A-Za-z0-9._-]+)==([^ ;\\]+)", re.MULTILINE)
ADDRESS = re.compile(
    r"^\s*(--(extra-)?index-url|--find-links|-[if] )|https?://|file:", re.MULTILINE
)


def main() -> None:
    lock = (ROOT / "requirements.lock").read_text()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    faults = list(_faults(lock, project))
    for fault in faults:
        print(f"requirements.lock: {fault}")
    sys.exit(bool(faults))


def _faults(lock: str, project: dict[str, Any]) -> Iterator[str]:
    pins: dict[str, list[str]] = {}
    for name, version in PIN.findall(lock):
        pins.setdefault(canonicalize_name(name), []).append(version)
    for line in _direct(project):
        requirement = Requirement(line)
        versions = pins.get(canonicalize_name(requirement.name))
        if versions is None:
            yield f"{requirement.name} is not pinned; run `make lock`"
        elif not all(requirement.specifier.contains(pin, prereleases=True) for pin in versions):
            yield f"{requirement.name} {', '.join(versions)} is not {requirement.specifier}"
    # An address of an index would send every user to the one of whoever made the lock.
    if ADDRESS.search(lock):
        yield "holds the address of an index"
    for block in re.split(r"\n(?=\S)", lock):
        if PIN.match(block) and "--hash=sha256:" not in block:
            yield f"{block.split()[0]} has no hash"


def _direct(project: dict[str, Any]) -> Iterator[str]:
    yield from project["build-system"]["requires"]
    yield from project["project"]["dependencies"]
    for extra in project["project"].get("optional-dependencies", {}).values():
        yield from extra
    for group in project.get("dependency-groups", {}).values():
        yield from (entry for entry in group if isinstance(entry, str))


if __name__ == "__main__":
    main()

"""What this machine has for trainers."""

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

AUTO = "auto"
SMI = ("nvidia-smi", "--query-gpu=index", "--format=csv,noheader")
SMI_SECONDS = 30
MEMINFO = Path("/proc/meminfo")
CGROUP_LIMITS = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)


def gpu_ids(wanted: Sequence[str]) -> tuple[str, ...]:
    """Numbers or UUIDs as `CUDA_VISIBLE_DEVICES` takes them; ``auto`` stands for all there are."""
    if tuple(wanted) != (AUTO,):
        return tuple(wanted)
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return tuple(id.strip() for id in visible.split(",") if id.strip())
    try:
        said = subprocess.run(SMI, capture_output=True, text=True, timeout=SMI_SECONDS, check=True)
    except (OSError, subprocess.SubprocessError):
        return ()
    return tuple(said.stdout.split())


def memory_bytes(*, meminfo: Path = MEMINFO, limits: Sequence[Path] = CGROUP_LIMITS) -> int | None:
    """Of the machine, or of the container where that is less; None where it cannot be known."""
    found = [_total(meminfo), *map(_limit, limits)]
    return min((value for value in found if value is not None), default=None)


def _total(meminfo: Path) -> int | None:
    try:
        lines = meminfo.read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        name, _, value = line.partition(":")
        if name == "MemTotal":
            return int(value.split()[0]) * 1024
    return None


def _limit(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):  # "max" is no limit
        return None

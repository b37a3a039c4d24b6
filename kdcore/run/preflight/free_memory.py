"""How much memory a device has left for this process."""

from collections.abc import Iterator
from pathlib import Path

import torch

_V1 = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
_V2 = ("memory.max", "memory.current", "inactive_file")


def free_bytes(device: torch.device) -> int | None:
    """Of a GPU what nobody holds, and what this process holds without using; else the host's.

    None where nobody says.
    """
    if device.type != "cuda":
        return host_free_bytes()
    free, _ = torch.cuda.mem_get_info(device)
    return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)


def host_free_bytes(root: Path = Path("/")) -> int | None:
    """The smallest of what the kernel calls available and what every control group leaves."""
    known = [*_available(root), *_left_by_groups(root)]
    return min(known) if known else None


def _available(root: Path) -> Iterator[int]:
    for line in _lines(root / "proc/meminfo"):
        if line.startswith("MemAvailable:"):
            yield 1024 * int(line.split()[1])


def _left_by_groups(root: Path) -> Iterator[int]:
    """Limit minus usage of this process's group and of those above it, page cache not counted."""
    for line in _lines(root / "proc/self/cgroup"):
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            mount, files = root / "sys/fs/cgroup", _V2
        elif "memory" in controllers.split(","):
            mount, files = root / "sys/fs/cgroup/memory", _V1
        else:
            continue
        own = mount / path.lstrip("/")
        for folder in (own, *own.parents):
            if folder.is_relative_to(mount):
                yield from _left(folder, *files)


def _left(folder: Path, limit: str, usage: str, cache: str) -> Iterator[int]:
    most, used = (next(_lines(folder / name), "max") for name in (limit, usage))
    if not (most.isdecimal() and used.isdecimal()):
        return
    cached = [
        line.split()[1] for line in _lines(folder / "memory.stat") if line.split()[0] == cache
    ]
    yield int(most) - int(used) + int(next(iter(cached), "0"))


def _lines(path: Path) -> Iterator[str]:
    try:
        yield from path.read_text().splitlines()
    except OSError:
        return

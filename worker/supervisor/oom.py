"""Whether the kernel killed something of this control group for lack of memory."""

from pathlib import Path

CGROUP_ROOT = Path("/sys/fs/cgroup")
OWN_CGROUP = Path("/proc/self/cgroup")


def oom_kills(*, root: Path = CGROUP_ROOT, own: Path = OWN_CGROUP) -> int | None:
    """How often that happened so far; None where it cannot be known."""
    for path in _candidates(root, own):
        try:
            lines = path.read_text().splitlines()
        except OSError:
            continue
        for line in lines:
            name, _, value = line.partition(" ")
            if name == "oom_kill":
                return int(value)
    return None


def _candidates(root: Path, own: Path) -> list[Path]:
    try:
        entries = [line.split(":", 2) for line in own.read_text().splitlines()]
    except OSError:
        return []
    found = []
    for _, controllers, group in entries:
        below = group.lstrip("/")
        if controllers == "":
            # Inside a container the path may name the host's tree; the own group is then the root.
            found += [root / below / "memory.events", root / "memory.events"]
        elif "memory" in controllers.split(","):
            found += [root / "memory" / below / "memory.oom_control"]
            found += [root / "memory" / "memory.oom_control"]
    return found

"""What code this process runs, so that a result can be traced back to it."""

import os
import platform
import subprocess
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path

from kdcore import __version__

ROOT = Path(__file__).resolve().parents[1]
GIT_SECONDS = 5.0


def describe_build(
    environment: Mapping[str, str] = os.environ, *, root: Path = ROOT
) -> dict[str, str]:
    """``version`` of kdcore, ``python``, and as far as they are known:

    ``git_sha`` (``KD_GIT_SHA``, else of the checkout at ``root``; ``git_dirty`` says that files were
    changed since), ``lock_sha256`` of `requirements.lock` (``KD_LOCK_SHA256``, else of the file) and
    ``image``, the digest of the container's image (``KD_IMAGE_DIGEST``).
    """
    known = {
        "version": __version__,
        "python": platform.python_version(),
        "image": environment.get("KD_IMAGE_DIGEST"),
        "lock_sha256": environment.get("KD_LOCK_SHA256") or _digest_of(root / "requirements.lock"),
    }
    git_sha = environment.get("KD_GIT_SHA")
    checkout = {"git_sha": git_sha} if git_sha else _checkout(root)
    return {name: value for name, value in (known | checkout).items() if value}


def _digest_of(path: Path) -> str | None:
    return sha256(path.read_bytes()).hexdigest() if path.is_file() else None


def _checkout(root: Path) -> dict[str, str | None]:
    if not (root / ".git").exists():
        return {}
    try:
        changed = _git(root, "status", "--porcelain", "--untracked-files=no")
        return {"git_sha": _git(root, "rev-parse", "HEAD"), "git_dirty": "true" if changed else ""}
    except (OSError, subprocess.SubprocessError):
        return {}  # no git here, or the checkout is somebody else's


def _git(root: Path, *arguments: str) -> str:
    command = ["git", "--no-optional-locks", *arguments]
    done = subprocess.run(
        command, cwd=root, capture_output=True, text=True, check=True, timeout=GIT_SECONDS
    )
    return done.stdout.strip()

"""Makes `.venv` exactly what `requirements.lock` says; does nothing when it already is.

Runs on any Python >= 3.11 with nothing installed. uv is used where it is there, and otherwise
fetched into a private environment. Several at once wait for each other.
"""

import fcntl
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import time
import tomllib
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
STAMP = VENV / ".installed"
LOCK = ROOT / "requirements.lock"


def main() -> None:
    with (ROOT / ".setup.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (STAMP.exists() and STAMP.read_text() == _wanted()):
            _install()


def _install() -> None:
    started = time.monotonic()
    print(f"setup: Python {platform.python_version()}, .venv from requirements.lock", flush=True)
    STAMP.unlink(missing_ok=True)
    uv = _uv()
    if not _venv_fits():
        _run([uv, "venv", "--quiet", "--clear", "--no-project", "--python", sys.executable, VENV])
    python = VENV / "bin" / "python"
    _run([uv, "pip", "sync", "--quiet", "--python", python, "--require-hashes", LOCK])
    # The build backend comes from the lock too: nothing is fetched that has no hash.
    editable = ["--no-deps", "--no-build-isolation", "--editable", ROOT]
    _run([uv, "pip", "install", "--quiet", "--python", python, *editable])
    STAMP.write_text(_wanted())
    print(f"setup: done in {time.monotonic() - started:.0f} s", flush=True)


def _wanted() -> str:
    """Digest of all that decides what is installed: lock, interpreter, build metadata."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    metadata = {key: project[key] for key in ("build-system", "project")}
    python = f"{platform.python_implementation()} {sys.version_info[:2]} {platform.machine()}"
    parts = (
        LOCK.read_bytes(),
        json.dumps(metadata, sort_keys=True).encode(),
        f"{python} {ROOT}".encode(),
    )
    return hashlib.sha256(b"\0".join(hashlib.sha256(part).digest() for part in parts)).hexdigest()


def _venv_fits() -> bool:
    """Whether the environment there is of this Python and still runs."""
    code = "import sys; print(sys.version_info[:2])"
    try:
        found = subprocess.run(
            [VENV / "bin" / "python", "-c", code], capture_output=True, text=True, check=False
        )
    except OSError:
        return False
    return found.stdout.strip() == str(sys.version_info[:2])


def _uv() -> Path | str:
    found = shutil.which("uv")
    # A shim may be there that points at nothing; only one that runs counts.
    if found and not subprocess.run([found, "-V"], capture_output=True, check=False).returncode:
        return found
    home = ROOT / ".uv"
    uv = home / "bin" / "uv"
    if not uv.exists():
        _run([sys.executable, "-m", "venv", "--clear", home])
        _run([home / "bin" / "python", "-m", "pip", "install", "--quiet", "uv"])
    return uv


def _run(command: Sequence[str | Path]) -> None:
    # Without it uv would fetch an interpreter, or take another project's environment.
    environment = {key: value for key, value in os.environ.items() if key != "VIRTUAL_ENV"}
    result = subprocess.run(
        command, env={**environment, "UV_PYTHON_DOWNLOADS": "never"}, cwd=ROOT, check=False
    )
    if result.returncode:
        sys.exit(f"setup: failed: {' '.join(map(str, command))}")


if __name__ == "__main__":
    main()

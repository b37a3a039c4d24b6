"""Writing files so that a reader sees the old content or the new one, never a part."""

import errno
import hashlib
import os
from collections.abc import Callable
from pathlib import Path

from kdcore.errors import DiskFull


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Let ``write`` fill a file beside ``path``, make it durable, then put it in place.

    Raises: DiskFull; what stood at ``path`` is untouched then.
    """
    temporary = path.with_name(f".{path.name}.partial")
    try:
        write(temporary)
        with temporary.open("rb") as handle:
            os.fsync(handle.fileno())
        temporary.replace(path)
        sync_folder(path.parent)
    # Not every writer raises OSError for a full disk: torch and safetensors wrap it in their own.
    except Exception as error:
        temporary.unlink(missing_ok=True)
        if is_disk_full(error):
            raise DiskFull(
                f"no space left to write {path.name}", remedy="free disk space, then retry the job"
            ) from error
        raise


def write_text(path: Path, text: str) -> None:
    """`write_atomically` for text, UTF-8. Raises: DiskFull."""
    write_atomically(path, lambda target: target.write_text(text, encoding="utf-8"))


def sync_folder(folder: Path) -> None:
    """Make renames inside ``folder`` durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sha256_of(path: Path) -> str:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def is_disk_full(error: BaseException) -> bool:
    """Whether ``error``, or what caused it, is a full disk or an exceeded quota."""
    current: BaseException | None = error
    while current is not None:
        if isinstance(current, OSError) and current.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        text = str(current)
        if "No space left on device" in text or "PytorchStreamWriter failed writing" in text:
            return True
        current = current.__cause__ or current.__context__
    return False

"""Taking single files out of a tar. Every byte of the archive is untrusted.

Python's own extraction is not used: its filters could be escaped through links (CVE-2025-4517 and
its like). Here only regular files are written, under names made of checked parts, by our own code;
an archive that holds anything else is refused as a whole.
"""

import gzip
import os
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Final, cast

from kdcore.data.listing import DEPTH_MAX, Folder

ARCHIVE_BYTES_MAX = 256 * 2**30
MEMBER_BYTES_MAX = 2**30
MEMBERS_MAX = 2_000_000
RATIO_MAX = 200
"""Times its own size that a compressed archive may hold; PNG and JPEG hardly shrink at all."""
_READ_MAX: Final = 2**20
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW


class _Refused(Exception):
    """The archive as a whole cannot be used."""


def extract(source: Folder, archive: Path, made: Folder, wanted: frozenset[str]) -> bool:
    """Write the members named in ``wanted`` below ``made``, at their names; others are passed over.

    Returns whether the archive could be used; says why where it could not. Members that were
    written before are left alone: a split's images may be another split's, too.
    """
    if not source.file(archive, bytes_max=ARCHIVE_BYTES_MAX):
        return False
    try:
        with _opened(archive) as tar:
            seen: set[str] = set()
            for member, name in _regular_files(tar, archive.stat().st_size):
                if name in seen:
                    raise _Refused(f"holds {name} twice")
                seen.add(name)
                if name in wanted and not (made.root / name).exists():
                    content = tar.extractfile(member)
                    assert content is not None, "a regular file"
                    _write(made.root, name, cast("BinaryIO", content), member.size)
    except _Refused as refused:
        source.problem(archive, str(refused))
        return False
    except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile, ValueError) as error:
        source.problem(archive, f"is no whole tar archive: {error}")
        return False
    return True


def _regular_files(
    tar: tarfile.TarFile, archive_bytes: int
) -> Iterator[tuple[tarfile.TarInfo, str]]:
    total = 0
    for count, member in enumerate(_members(tar), start=1):
        name = _checked(member)
        total += member.size
        if count > MEMBERS_MAX:
            raise _Refused(f"holds more than {MEMBERS_MAX:,} members")
        # Before anything of the member is read or skipped.
        if member.size > MEMBER_BYTES_MAX or total > max(archive_bytes, 2**20) * RATIO_MAX:
            raise _Refused(f"{name} makes it larger than an archive of its size can be")
        if member.isreg():
            yield member, name


def _members(tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    while (member := tar.next()) is not None:
        tar.members.clear()  # type: ignore[attr-defined]  # tarfile would keep every header
        yield member


def _checked(member: tarfile.TarInfo) -> str:
    shown = ascii(member.name[:200])[1:-1]
    if not (member.isreg() or member.isdir()) or member.issparse():
        raise _Refused(f"{shown} is a link, a device or a sparse file; only plain files are taken")
    if member.size < 0:
        raise _Refused(f"{shown} has a negative size")
    parts = member.name.removeprefix("./").rstrip("/").split("/")
    bad = (
        member.name.startswith("/")
        or not member.name.isprintable()
        or "\\" in member.name
        or ".." in parts
        or len(parts) > DEPTH_MAX
        or any(len(part.encode()) > 255 for part in parts)
    )
    if bad:
        raise _Refused(f"the name {shown} leaves its folder or cannot be used")
    return "/".join(part for part in parts if part not in ("", "."))


def _write(root: Path, name: str, content: BinaryIO, size: int) -> None:
    """Create ``name`` below ``root``, one folder after the other, following no link."""
    *folders, last = name.split("/")
    here = os.open(root, _DIRECTORY)
    try:
        for folder in folders:
            with suppress(FileExistsError):
                os.mkdir(folder, dir_fd=here)
            below = os.open(folder, _DIRECTORY, dir_fd=here)
            os.close(here)
            here = below
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        with os.fdopen(os.open(last, flags, 0o644, dir_fd=here), "wb") as file:
            left = size
            while left:
                chunk = content.read(min(left, _READ_MAX))
                if not chunk:
                    raise _Refused(f"{name} is cut off")
                file.write(chunk)
                left -= len(chunk)
    finally:
        os.close(here)


class _Bounded:
    """Refuses the one large read by which a header of a few bytes fills the memory."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= _READ_MAX:
            raise _Refused("has a header that is too large")
        return self._file.read(size)

    def seek(self, position: int, whence: int = 0) -> int:
        return self._file.seek(position, whence)

    def tell(self) -> int:
        return self._file.tell()


@contextmanager
def _opened(archive: Path) -> Iterator[tarfile.TarFile]:
    with archive.open("rb") as raw:
        packed = raw.read(2) == b"\x1f\x8b"
        raw.seek(0)
        file = cast("BinaryIO", gzip.GzipFile(fileobj=raw)) if packed else raw
        bounded = cast("BinaryIO", _Bounded(file))
        with tarfile.open(fileobj=bounded, mode="r:", errorlevel=2) as tar:
            yield tar

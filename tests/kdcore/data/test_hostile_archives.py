"""Broken and hostile archives: refused as a whole, and nothing is written beside."""

import gzip
import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.kdcore.data import making
from tests.kdcore.data.making import member, problems


def links(kind: bytes) -> Callable[[tarfile.TarFile], None]:
    return lambda tar: member(tar, "VOCdevkit/x", type=kind, linkname="/etc/passwd")


def named(name: str) -> Callable[[tarfile.TarFile], None]:
    return lambda tar: member(tar, name, b"x")


def too_large(tar: tarfile.TarFile) -> None:
    info = tarfile.TarInfo("VOCdevkit/x")
    info.size = 2**40
    tar.fileobj.write(info.tobuf(tarfile.GNU_FORMAT))  # type: ignore[union-attr]


def bomb_of_a_name(tar: tarfile.TarFile) -> None:
    """A header that says that the next name is 64 MiB long."""
    info = tarfile.TarInfo("././@LongLink")
    info.type = tarfile.GNUTYPE_LONGNAME
    info.size = 2**26
    tar.addfile(info, io.BytesIO(bytes(2**26)))


def sparse(tar: tarfile.TarFile) -> None:
    header = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": "VOCdevkit/x",
              "GNU.sparse.realsize": str(2**40)}  # fmt: skip
    member(tar, "VOCdevkit/x", b"1\n0\n1\n".ljust(1024, b"\0"), pax_headers=header)


ARCHIVES: dict[str, tuple[Callable[[tarfile.TarFile], None], str]] = {
    "above its folder": (named("../evil.png"), "leaves its folder"),
    "above, from inside": (named("VOCdevkit/../../evil.png"), "leaves its folder"),
    "absolute": (named("/tmp/evil.png"), "leaves its folder"),
    "a backslash": (named(r"..\evil.png"), "leaves its folder"),
    "a control character": (named("a\x1b[2Jb.png"), "leaves its folder"),
    "deep": (named("/".join("a" * 40) + "/x.png"), "leaves its folder"),
    "long": (named("a" * 300), "leaves its folder"),
    "a symbolic link": (links(tarfile.SYMTYPE), "is a link, a device"),
    "a hard link": (links(tarfile.LNKTYPE), "is a link, a device"),
    "a device": (links(tarfile.CHRTYPE), "is a link, a device"),
    "a block device": (links(tarfile.BLKTYPE), "is a link, a device"),
    "a pipe": (links(tarfile.FIFOTYPE), "is a link, a device"),
    "a sparse file": (sparse, "is a link, a device or a sparse file"),
    "a file larger than the archive can hold": (too_large, "larger than an archive"),
    "a name of 64 MiB": (bomb_of_a_name, "header that is too large"),
    "a file twice": (
        named("VOCdevkit/VOC2012/ImageSets/Segmentation/train.txt"), "twice",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ARCHIVES)
@pytest.mark.parametrize("packed", [False, True], ids=["tar", "gz"])
def test_archives(name: str, packed: bool, tmp_path: Path) -> None:
    add, told = ARCHIVES[name]
    described = making.voc_archive(tmp_path)
    archive = tmp_path / "archive/voc.tar"
    with tarfile.open(archive, "a") as tar:
        add(tar)
    if packed:
        archive.write_bytes(gzip.compress(archive.read_bytes(), 1))
    found = problems(described, tmp_path)
    assert ("voc.tar", told) in [
        (file, told if told in reason else reason) for file, reason in found
    ]
    below = {path for path in tmp_path.rglob("*") if "evil" in path.name}
    assert not below


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "is no whole tar archive"),
        (b"PK\x03\x04 a zip", "is no whole tar archive"),
        (b"\x1f\x8b cut", "is no whole tar archive"),
        (
            gzip.compress(tarfile.TarInfo("a").tobuf() + bytes(99), mtime=0)[:40],
            "is no whole tar archive",
        ),
    ],
)
def test_what_is_no_archive(content: bytes, told: str, tmp_path: Path) -> None:
    described = making.voc_archive(tmp_path)
    (tmp_path / "archive/voc.tar").write_bytes(content)
    assert any(
        file == "voc.tar" and told in reason for file, reason in problems(described, tmp_path)
    )


def test_a_bomb_is_not_unpacked(tmp_path: Path) -> None:
    """1 GiB of zeros that gzip made 1 MB of: seen by its header, before anything is unpacked."""
    described = making.voc_archive(tmp_path)
    info = tarfile.TarInfo("VOCdevkit/x")
    info.size = 2**30
    archive = tmp_path / "archive/voc.tar"
    archive.write_bytes(gzip.compress(info.tobuf() + bytes(2**20)))
    assert (
        "voc.tar",
        "VOCdevkit/x makes it larger than an archive of its size can be",
    ) in problems(described, tmp_path)


def test_an_archive_that_leads_out(tmp_path: Path) -> None:
    described = making.voc_archive(tmp_path)
    archive = tmp_path / "archive/voc.tar"
    archive.rename(tmp_path / "outside.tar")
    archive.symlink_to(tmp_path / "outside.tar")
    assert ("voc.tar", "link that leads out of the dataset's folder") in problems(
        described, tmp_path
    )

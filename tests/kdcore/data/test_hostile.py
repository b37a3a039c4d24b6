"""Broken and hostile files: each is named with its reason, and nothing is registered."""

import gzip
import io
import json
import os
import struct
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from kdcore.spec.dataset import DatasetSource
from tests.kdcore.data import making
from tests.kdcore.data.making import member, noise, png, problems, save, stripes

Damage = Callable[[Path], object]


def write(content: bytes) -> Damage:
    return lambda path: path.write_bytes(content)


def picture(pixels: np.ndarray, kind: str = "PNG", **options: Any) -> Damage:
    return lambda path: Image.fromarray(pixels).save(path, kind, **options)


def replaced_by(make: Callable[[Path], object]) -> Damage:
    def damage(path: Path) -> None:
        path.unlink()
        make(path)

    return damage


def cut(share: float) -> Damage:
    return lambda path: path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])


def flipped(path: Path) -> None:
    """One bit inside the picture's data: the checksum of the chunk no longer holds."""
    content = bytearray(path.read_bytes())
    content[content.index(b"IDAT") + 8] ^= 4
    path.write_bytes(content)


def huge_png(width: int, height: int) -> bytes:
    def chunk(name: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    data = zlib.compress(bytes(1000))
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    )


def several(kind: str) -> bytes:
    content = io.BytesIO()
    pages = [Image.fromarray(noise(seed)) for seed in range(2)]
    pages[0].save(content, kind, save_all=True, append_images=pages[1:])
    return content.getvalue()


IMAGE, MASK = "train/images/a.png", "train/masks/a.png"
FILES: dict[str, tuple[str, Damage, str]] = {
    # name: (the file that is damaged and named, how, what is said)
    "image: empty": (IMAGE, write(b""), "cannot be decoded"),
    "image: text": (IMAGE, write(b"not a picture"), "cannot be decoded"),
    "image: cut": (IMAGE, cut(0.5), "cannot be decoded"),
    "image: header only": (IMAGE, cut(0.1), "cannot be decoded"),
    "image: a flipped bit": (IMAGE, flipped, "cannot be decoded"),
    "image: huge header": (IMAGE, write(huge_png(60000, 60000)), "pixels"),
    "image: large header": (IMAGE, write(huge_png(10001, 10000)), "pixels"),
    "image: no width": (IMAGE, write(huge_png(0, 10)), "cannot be decoded"),
    "image: more pixels than data": (IMAGE, write(huge_png(5000, 5000)), "cannot be decoded"),
    "image: GIF inside": (IMAGE, picture(noise(0)[..., 0], "GIF"), "cannot be decoded"),
    "image: SVG inside": (IMAGE, write(b"<svg xmlns='http://www.w3.org/2000/svg'/>"), "decoded"),
    "image: PostScript inside": (IMAGE, write(b"%!PS-Adobe-3.0 EPSF-3.0\n"), "cannot be decoded"),
    "image: floats": (IMAGE, picture(noise(0)[..., 0].astype(np.float32), "TIFF"), "floating"),
    "image: NaN": (IMAGE, picture(np.full((6, 8), np.nan, np.float32), "TIFF"), "floating-point"),
    "image: 32 bits": (IMAGE, picture(np.full((6, 8), 70000, np.int32), "TIFF"), "70000"),
    "image: several pages": (IMAGE, write(several("TIFF")), "several pictures"),
    "image: animated": (IMAGE, write(several("PNG")), "several pictures"),
    "image: animated webp": (IMAGE, write(several("WEBP")), "several pictures"),
    "image: a folder": (IMAGE, replaced_by(Path.mkdir), "not a regular file"),
    "image: a pipe": (IMAGE, replaced_by(os.mkfifo), "not a regular file"),
    "image: a link to nothing": (IMAGE, replaced_by(lambda p: p.symlink_to("no.png")), "no such"),
    "image: a link in a circle": (IMAGE, replaced_by(lambda p: p.symlink_to("a.png")), "link"),
    "image: a device": (IMAGE, replaced_by(lambda p: p.symlink_to("/dev/zero")), "leads out"),
    "image: a secret": (IMAGE, replaced_by(lambda p: p.symlink_to("/etc/passwd")), "leads out"),
    "image: no mask": (IMAGE, lambda p: (p.parents[1] / "masks/a.png").unlink(), "no mask of the"),
    "image: the same twice": (
        "train/images/a.png", lambda p: save(noise(7), p.with_suffix(".bmp")), "same name as",
    ),
    "image: name with a backslash": (
        r"train/images/a\b.png", lambda p: save(noise(7), p), "name cannot be used",
    ),
    "image: name with a control character": (
        "train/images/a\nb.png", lambda p: save(noise(7), p), "name cannot be used",
    ),
    "image: other kind of file": ("train/images/a.exe", write(b"MZ"), "not an image file"),
    "image: also in val": (
        "val/images/a.png", lambda p: p.write_bytes((p.parents[2] / IMAGE).read_bytes()),
        "same image is in train",
    ),
    "mask: empty": (MASK, write(b""), "cannot be decoded"),
    "mask: cut": (MASK, cut(0.6), "cannot be decoded"),
    "mask: of another size": (MASK, picture(stripes([0, 1])[:5]), "mask is 8x5, its image 8x6"),
    "mask: turned": (MASK, picture(stripes([0, 1]).T.copy()), "EXIF orientation"),
    "mask: unknown id": (MASK, picture(stripes([0, 9])), "ids that no class has: 9"),
    "mask: many unknown ids": (MASK, picture(noise(0)[..., 0]), "more"),
    "mask: unknown id of 16 bits": (MASK, picture(stripes([0, 256], np.uint16)), "has: 256"),
    "mask: negative ids": (MASK, picture(stripes([0, -1], np.int32), "TIFF"), "has: -1"),
    "mask: 32 bits": (MASK, picture(stripes([0, 2**30], np.int32), "TIFF"), str(2**30)),
    "mask: colours": (MASK, picture(noise(0)), "mode RGB"),
    "mask: with transparency": (MASK, picture(noise(0, (6, 8, 4))), "mode RGBA"),
    "mask: grey with transparency": (MASK, picture(noise(0, (6, 8, 2))), "mode LA"),
    "mask: floats": (MASK, picture(stripes([0, 1]).astype(np.float32), "TIFF"), "mode F"),
    "mask: NaN": (MASK, picture(np.full((6, 8), np.nan, np.float32), "TIFF"), "mode F"),
    "mask: blurred by JPEG": (MASK, picture(stripes([0, 1]) * 90, "JPEG"), "no class has"),
    "mask: several pages": (MASK, write(several("TIFF")), "several pictures"),
    "mask: no image": (MASK, lambda p: (p.parents[1] / "images/a.png").unlink(), "no image of the"),
}  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_files(name: str, tmp_path: Path) -> None:
    file, damage, told = FILES[name]
    described = making.folders(tmp_path / "data")
    damage(tmp_path / "data" / file)
    shown = ascii(file)[1:-1] if not file.isprintable() else file
    assert any(
        found.partition(".")[0] == shown.partition(".")[0] and told in reason
        for found, reason in problems(described, tmp_path)
    ), problems(described, tmp_path)


def test_a_file_too_large_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    described = making.folders(tmp_path)
    with (tmp_path / IMAGE).open("wb") as file:
        file.truncate(2**30 + 1)  # a hole: no space is taken
    ((found, reason),) = problems(described, tmp_path)
    assert (found, reason) == (IMAGE, "is larger than 1,073,741,824 bytes")


def test_a_folder_that_leads_out(tmp_path: Path) -> None:
    described = making.folders(tmp_path / "data")
    making.folders(tmp_path / "elsewhere")
    images = tmp_path / "data/train/images"
    images.rename(tmp_path / "old")
    images.symlink_to(tmp_path / "elsewhere/val/images")
    assert ("train/images", "link that leads out of the dataset's folder") in problems(
        described, tmp_path
    )


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
        (gzip.compress(tarfile.TarInfo("a").tobuf() + bytes(99))[:40], "is no whole tar archive"),
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


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        ("../../../../etc/passwd\n", "is no id"),
        ("train_1\ntrain_1\n", "listed twice"),
        ("gone\n", "no image of this listed id"),
        ("", "lists nothing"),
    ],
)
def test_voc_lists(lines: str, told: str, tmp_path: Path) -> None:
    described = making.voc(tmp_path)
    (tmp_path / "VOCdevkit/VOC2012/ImageSets/Segmentation/train.txt").write_text(lines)
    assert any(told in reason for _, reason in problems(described, tmp_path))


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        (b"train/0.jpg\n", "line 1: expected `image mask`"),
        (b"train/0.jpg ../outside.png\n", "line 1: a path leaves"),
        (b"/etc/passwd trainannot/0.png\n", "line 1: a path leaves"),
        (b"train/0.jpg trainannot/9.png\n", "no such file"),
        (b"train/0.jpg trainannot/0.png\n" * 2, "line 2: train/0 is listed twice"),
        (b"\xff\xfe\x00", "no UTF-8"),
    ],
)
def test_camvid_lists(lines: bytes, told: str, tmp_path: Path) -> None:
    described = making.camvid(tmp_path)
    (tmp_path / "train.txt").write_bytes(lines)
    assert any(told in reason for _, reason in problems(described, tmp_path))


def header(path: Path, field: str, value: Any) -> None:
    import nibabel

    content = bytearray(gzip.decompress(path.read_bytes()))
    head = nibabel.Nifti1Header(bytes(content[:348]), check=False)
    head[field] = value
    content[:348] = head.binaryblock
    path.write_bytes(gzip.compress(content))


SHAPE = (10, 12, 6)
CASE = "train/BraTS-1-000/BraTS-1-000"
VOLUMES: dict[str, tuple[str, Damage, str]] = {
    "empty": ("t1c", write(b""), "no readable NIfTI"),
    "no gzip": ("t1c", write(b"hello"), "no readable NIfTI"),
    "cut": ("t1c", cut(0.5), "cannot be read"),
    "NaN": (
        "t1c", lambda p: making.volume(p, np.full(SHAPE, np.nan, np.float32)), "NaN or infinite",
    ),
    "infinite": (
        "t2w", lambda p: making.volume(p, np.full(SHAPE, np.inf, np.float32)), "NaN or infinite",
    ),
    "huge": ("t1c", lambda p: header(p, "dim", [3, 30000, 30000, 30000, 1, 1, 1, 1]), "at most"),
    "negative": ("t1c", lambda p: header(p, "dim", [3, -1, 5, 5, 1, 1, 1, 1]), "t1c"),
    "data far behind": ("t1c", lambda p: header(p, "vox_offset", 1e15), "at byte"),
    "an affine of NaN": (
        "t1c", lambda p: header(p, "srow_x", [np.nan] * 4) or header(p, "sform_code", 1), "affine",
    ),
    "four dimensions": (
        "t1c", lambda p: making.volume(p, np.zeros((*SHAPE, 2), np.int16)), "three dimensions",
    ),
    "complex": ("t1c", lambda p: making.volume(p, np.zeros(SHAPE, np.complex64)), "type complex"),
    "other shape": ("t2f", lambda p: making.volume(p, np.zeros((10, 12, 5), np.int16)), "grid"),
    "other place": (
        "seg", lambda p: making.volume(p, np.zeros(SHAPE, np.int16), np.diag([2.0, 2, 2, 1])),
        "another grid",
    ),
    "unknown label": ("seg", lambda p: making.volume(p, np.full(SHAPE, 5, np.int16)), "have: 5"),
    "half a label": ("seg", lambda p: making.volume(p, np.full(SHAPE, 0.5, np.float32)), "0.5"),
    "3 and 4": (
        "seg", lambda p: making.volume(p, np.resize([3, 4], SHAPE).astype(np.int16)), "both 3 and 4",
    ),
    "no tumour": ("seg", lambda p: making.volume(p, np.zeros(SHAPE, np.int16)), "no slice holds"),
    "missing": ("t2w", Path.unlink, "no volume named *t2w.nii.gz"),
    "leads out": ("t2w", replaced_by(lambda p: p.symlink_to("/etc/passwd")), "leads out"),
}  # fmt: skip


@pytest.mark.parametrize("name", VOLUMES)
def test_volumes(name: str, tmp_path: Path) -> None:
    pytest.importorskip("nibabel")
    modality, damage, told = VOLUMES[name]
    described = making.brats(tmp_path / "data")
    damage(tmp_path / "data" / f"{CASE}-{modality}.nii.gz")
    found = problems(described, tmp_path)
    assert any(
        file.startswith("train/BraTS-1-000") and told in f"{file} {reason}"
        for file, reason in found
    ), found


def linked(file: Any) -> None:
    import h5py

    del file["mask"]
    file["mask"] = h5py.ExternalLink("/etc/passwd", "/x")


def stored_outside(file: Any) -> None:
    del file["image"]
    file.create_dataset("image", (6, 8), "u1", external=[("/etc/passwd", 0, 48)])


def holding(key: str, values: np.ndarray) -> Callable[[Any], None]:
    def damage(file: Any) -> None:
        del file[key]
        file[key] = values

    return damage


SLICES: dict[str, tuple[Callable[[Any], None], str]] = {
    "a link": (linked, "is a link"),
    "stored elsewhere": (stored_outside, "lies in another file"),
    "no mask": (lambda file: file.__delitem__("mask"), "holds no 'mask'"),
    "text": (holding("mask", np.bytes_("x")), "has the shape ()"),
    "NaN image": (holding("image", np.full((6, 8, 4), np.nan)), "NaN or infinite"),
    "NaN mask": (holding("mask", np.full((6, 8), np.nan)), "no ids"),
    "negative ids": (holding("mask", np.full((6, 8), -1)), "outside 0..65535"),
    "regions that overlap": (holding("mask", np.ones((6, 8, 3), np.uint8)), "overlap"),
    "two few channels": (holding("image", np.zeros((6, 8, 2))), "has 2 channels"),
    "other size": (holding("image", np.zeros((5, 8, 4))), "has the shape (5, 8, 4)"),
    "huge": (
        lambda file: (
            file.__delitem__("image"),
            file.create_dataset("image", (2**20, 2**20), "u1", chunks=(64, 64)),
        ),
        "too large",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SLICES)
def test_slices(name: str, tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    damage, told = SLICES[name]
    described = making.hdf5(tmp_path / "data")
    with h5py.File(tmp_path / "data/train/volume_0_slice_1.h5", "a") as file:
        damage(file)
    found = problems(described, tmp_path)
    assert any(file == "train/volume_0_slice_1.h5" and told in reason for file, reason in found), (
        found
    )


def test_what_is_no_hdf5(tmp_path: Path) -> None:
    pytest.importorskip("h5py")
    described = making.hdf5(tmp_path / "data")
    cut(0.4)(tmp_path / "data/train/volume_0_slice_1.h5")
    assert "cannot be read" in problems(described, tmp_path)[0][1]


def thing(segmentation: Any, **fields: Any) -> dict[str, Any]:
    return {"id": 1, "image_id": 5, "category_id": 17, "segmentation": segmentation, **fields}


SQUARE = [[0, 0, 4, 0, 4, 4, 0, 4]]
THINGS: dict[str, tuple[dict[str, Any], str]] = {
    "unknown category": (thing(SQUARE, category_id=99), "the category 99"),
    "category as text": (thing(SQUARE, category_id="17"), "the category '17'"),
    "huge category": (thing(SQUARE, category_id=2**31), "the category"),
    "no segmentation": (thing(None), "no segmentation"),
    "two corners": (thing([[0, 0, 4, 4]]), "three or more corners"),
    "odd numbers": (thing([[0, 0, 4, 0, 4, 4, 0]]), "x and y"),
    "infinite corners": (thing([[0, 0, 1e999, 0, 4, 4]]), "no finite numbers"),
    "corners of text": (thing([["0", 0, 4, 0, 4, 4]]), "no finite numbers"),
    "run lengths of another size": (thing({"size": [600, 8], "counts": [4800]}), "run lengths for"),
    "too long run lengths": (thing({"size": [6, 8], "counts": [0, 2**40]}), "run lengths of"),
    "negative run lengths": (thing({"size": [6, 8], "counts": [49, -1]}), "whole numbers"),
    "garbled run lengths": (thing({"size": [6, 8], "counts": "\x7f\x7f"}), "cannot be decoded"),
    "endless run lengths": (thing({"size": [6, 8], "counts": "oooooooooo"}), "cannot be decoded"),
    "cut run lengths": (thing({"size": [6, 8], "counts": "o"}), "cut off"),
    "image that is not listed": (thing(SQUARE, image_id=6), "not listed"),
}  # fmt: skip


@pytest.mark.parametrize("name", THINGS)
def test_coco_annotations(name: str, tmp_path: Path) -> None:
    pytest.importorskip("pycocotools")
    annotation, told = THINGS[name]
    described = making.coco(tmp_path / "data", annotation)
    found = problems(described, tmp_path)
    assert any(
        file == "annotations/instances_train.json" and told in reason for file, reason in found
    ), found


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"{", "is no JSON"),
        (b"[" * 100_000, "is no JSON"),
        (b"[]", "is no COCO file"),
        (b'{"images": {}, "annotations": []}', "is no COCO file"),
        (b'{"images": [], "annotations": []}', "lists no images"),
        (b'{"images": [{"id": "x"}], "annotations": []}', "whole number as id"),
        (b'{"images": [{"id": 1}, {"id": 1}], "annotations": []}', "given twice"),
        (
            b'{"images": [{"id": 1, "file_name": "../x.jpg"}], "annotations": []}',
            "leaves its folder",
        ),
        (b'{"images": [{"id": 1, "file_name": "no.jpg"}], "annotations": []}', "no such file"),
        (
            b'{"images": [{"id": 1, "file_name": "0.jpg", "width": 90000}], "annotations": []}',
            "is 8x6, not 90000",
        ),
    ],
)
def test_coco_files(content: bytes, told: str, tmp_path: Path) -> None:
    pytest.importorskip("pycocotools")
    described = making.coco(tmp_path / "data")
    (tmp_path / "data/annotations/instances_train.json").write_bytes(content)
    found = problems(described, tmp_path)
    assert any(told in reason for _, reason in found), found


GOOD = png(stripes([0, 1, 2]))
ROWS: dict[str, tuple[tuple[Any, Any], str]] = {
    "no picture": ((None, GOOD), "row 0: image: no encoded picture"),
    "an empty picture": ((b"", GOOD), "image: no encoded picture"),
    "only a path": (({"bytes": None, "path": "/etc/passwd"}, GOOD), "only the path of a picture"),
    "no mask": ((png(noise(50)), None), "annotation: no encoded picture"),
    "text": ((b"hello", GOOD), "image: cannot be decoded"),
    "a cut picture": ((png(noise(50))[:90], GOOD), "row 0: cannot be decoded"),
    "other size": ((png(noise(50)[:5]), GOOD), "row 0: mask is 8x6"),
    "unknown id": ((png(noise(50)), png(stripes([7]))), "row 0: mask holds ids that no class has"),
}  # fmt: skip


@pytest.mark.parametrize("name", ROWS)
def test_parquet_rows(name: str, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    row, told = ROWS[name]
    described = making.parquet(tmp_path / "data", [row])
    found = [f"{file}: {reason}" for file, reason in problems(described, tmp_path)]
    assert any(line.startswith("data/train-00000-of-00001.parquet row 0: ") and told in line
               for line in found), found  # fmt: skip


@pytest.mark.parametrize("damage", [write(b""), write(b"PAR1PAR1"), cut(0.5)])
def test_what_is_no_parquet(damage: Damage, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    described = making.parquet(tmp_path / "data")
    damage(tmp_path / "data/data/train-00000-of-00001.parquet")
    assert "is no readable parquet file" in problems(described, tmp_path)[0][1]


def test_parquet_without_the_column(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    described = making.parquet(tmp_path)
    fields = json.loads(described.model_dump_json())
    fields["layout"]["annotation"] = "label"
    named = DatasetSource.model_validate(fields)
    assert "no column 'label', but 'image', 'annotation'" in problems(named, tmp_path)[0][1]


def test_there_are_enough_of_them() -> None:
    tables = (FILES, ARCHIVES, VOLUMES, SLICES, THINGS, ROWS)
    assert sum(map(len, tables)) >= 60

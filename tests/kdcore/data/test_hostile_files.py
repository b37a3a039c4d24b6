"""Broken and hostile images, masks and lists: each is named with its reason."""

import io
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.kdcore.data import making
from tests.kdcore.data.damaging import Damage, cut, picture, replaced_by, write
from tests.kdcore.data.making import noise, problems, save, stripes


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

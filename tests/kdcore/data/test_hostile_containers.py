"""Broken and hostile volumes, HDF5, COCO and parquet files: each is named with its reason."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kdcore.spec.dataset import DatasetSource
from tests.kdcore.data import making
from tests.kdcore.data.damaging import Damage, cut, replaced_by, write
from tests.kdcore.data.making import noise, png, problems, stripes
from tests.kdcore.data.test_hostile_archives import ARCHIVES
from tests.kdcore.data.test_hostile_files import FILES


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

"""Small datasets in each layout, made as the published ones are."""

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from kdcore.data.scan import scan
from kdcore.errors import DatasetInvalid
from kdcore.spec.dataset import DatasetManifest, DatasetSource

SPLITS = ("train", "val")
TWO = [{"name": "ground"}, {"name": "thing"}]


def source(root: Path, **fields: Any) -> DatasetSource:
    return DatasetSource.model_validate({"name": "made", "root": str(root), **fields})


def scanned(described: DatasetSource, tmp_path: Path) -> DatasetManifest:
    return scan(described, converted=tmp_path / "converted")


def problems(described: DatasetSource, tmp_path: Path) -> list[tuple[str, str]]:
    try:
        scanned(described, tmp_path)
    except DatasetInvalid as error:
        return [(problem.file, problem.reason) for problem in error.problems]
    return []


def save(pixels: np.ndarray, path: Path, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)
    return path


def opened(path: Path) -> Image.Image:
    with Image.open(path) as image:
        image.load()
        return image


def noise(seed: int, shape: tuple[int, ...] = (6, 8, 3)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)


def stripes(values: list[int], dtype: Any = np.uint8) -> np.ndarray:
    """(6, 8): the values one beside the other."""
    return np.tile(np.resize(np.array(values, dtype), 8), (6, 1))


def folders(root: Path, mask: np.ndarray | None = None) -> DatasetSource:
    """One pair a split: ``train/images/a.png`` and ``train/masks/a.png``."""
    for seed, split in enumerate(SPLITS):
        save(noise(seed), root / split / "images/a.png")
        save(stripes([0, 1]) if mask is None else mask, root / split / "masks/a.png")
    return source(root, classes=TWO, splits={split: split for split in SPLITS})


def voc(root: Path) -> DatasetSource:
    base = root / "VOCdevkit/VOC2012"
    for seed, split in enumerate(SPLITS):
        save(noise(seed), base / f"JPEGImages/{split}_1.jpg")
        save(stripes([0, 20, 255]), base / f"SegmentationClass/{split}_1.png")
        lists = base / "ImageSets/Segmentation"
        lists.mkdir(parents=True, exist_ok=True)
        (lists / f"{split}.txt").write_text(f"{split}_1\n")
    save(noise(9), base / "JPEGImages/not_listed.jpg")
    return source(root, layout={"kind": "voc"})


def voc_archive(tmp_path: Path, *, packed: bool = False) -> DatasetSource:
    voc(tmp_path / "plain")
    root = tmp_path / "archive"
    root.mkdir()
    with tarfile.open(root / "voc.tar", "w:gz" if packed else "w:") as tar:
        tar.add(tmp_path / "plain/VOCdevkit", "VOCdevkit")
    return source(root, layout={"kind": "voc", "archive": "voc.tar"})


def member(tar: tarfile.TarFile, name: str, content: bytes = b"", **fields: Any) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for key, value in fields.items():
        setattr(info, key, value)
    tar.addfile(info, io.BytesIO(content))


def cityscapes(root: Path) -> None:
    for seed, split in enumerate(SPLITS):
        for city in ("a", "b"):
            stem = f"{split}/{city}/{city}_000000"
            save(noise(2 * seed + (city == "b")), root / f"leftImg8bit/{stem}_leftImg8bit.png")
            masks = {
                "labelTrainIds": stripes([0, 18, 255]),
                "labelIds": stripes([7, 33, 0]),
                "instanceIds": stripes([7, 33001, 0], np.uint16),
                "color": noise(0),
            }
            for layer, mask in masks.items():
                save(mask, root / f"gtFine/{stem}_gtFine_{layer}.png")
            (root / f"gtFine/{stem}_gtFine_polygons.json").write_text("{}")


def camvid(root: Path) -> DatasetSource:
    for seed, split in enumerate(("train", "val", "test")):
        save(noise(seed), root / split / "0.jpg")
        save(stripes([0, 10, 11]), root / f"{split}annot/0.png")
        (root / f"{split}.txt").write_text(f"{split}/0.jpg {split}annot/0.png\n\n")
    return source(root, layout={"kind": "camvid"})


def brats(root: Path, **layout: Any) -> DatasetSource:
    """Two cases of 10x12x6 voxels; slices 2 and 3 hold a tumour with every label."""
    for seed, (split, case) in enumerate((("train", "BraTS-1-000"), ("val", "BraTS-2-000"))):
        labels = np.zeros((10, 12, 6), np.int16)
        labels[2:8, 3:9, 2:4] = 2
        labels[3:6, 4:7, 2:4] = 1
        labels[4, 5, 2:4] = 3
        rng = np.random.default_rng(seed)
        for name in ("t1c", "t2w", "t2f"):
            head = rng.integers(100, 1000, labels.shape).astype(np.int16)
            head[:, :, 0] = 0
            volume(root / split / case / f"{case}-{name}.nii.gz", head)
        volume(root / split / case / f"{case}-seg.nii.gz", labels)
    return source(
        root, layout={"kind": "brats", **layout}, splits={split: split for split in SPLITS}
    )


def volume(path: Path, voxels: np.ndarray, affine: np.ndarray | None = None) -> None:
    import nibabel

    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.Nifti1Image(voxels, np.eye(4) if affine is None else affine).to_filename(path)


def hdf5(root: Path, **layout: Any) -> DatasetSource:
    import h5py

    for seed, split in enumerate(SPLITS):
        (root / split).mkdir(parents=True)
        for index in range(2):
            one_hot = np.zeros((6, 8, 3), np.uint8)
            one_hot[:3, :4, 1] = index
            one_hot[3:, 4:, 2] = index
            path = root / split / f"volume_{seed}_slice_{index}.h5"
            with h5py.File(path, "w") as file:
                values = np.random.default_rng([seed, index]).normal(size=(6, 8, 4))
                file["image"], file["mask"] = values, one_hot
    return source(
        root, layout={"kind": "hdf5", **layout}, splits={split: split for split in SPLITS}
    )


COCO_CLASSES = [
    {"name": "ground", "raw_ids": [0]},
    {"name": "cat", "raw_ids": [17]},
    {"name": "dog", "raw_ids": [18]},
]


def coco(root: Path, *things: dict[str, Any]) -> DatasetSource:
    """6x8 images; ``things`` are the annotations of train's, a square where there are none."""
    square = {"id": 1, "image_id": 5, "category_id": 17, "segmentation": [[0, 0, 4, 0, 4, 4, 0, 4]]}
    (root / "annotations").mkdir(parents=True)
    for seed, split in enumerate(SPLITS):
        save(noise(seed), root / split / "0.jpg")
        document = {
            "images": [{"id": 5, "file_name": "0.jpg", "height": 6, "width": 8}],
            "annotations": [*things] if things and split == "train" else [square],
        }
        (root / f"annotations/instances_{split}.json").write_text(json.dumps(document))
    return source(
        root,
        layout={"kind": "coco"},
        classes=COCO_CLASSES,
        splits={split: split for split in SPLITS},
    )


def png(pixels: np.ndarray, kind: str = "PNG") -> bytes:
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, kind)
    return content.getvalue()


def parquet(root: Path, rows: list[tuple[Any, Any]] | None = None) -> DatasetSource:
    """Two rows a split, as `datasets` writes them; ``rows`` replace those of train."""
    import pyarrow as pa
    import pyarrow.parquet

    (root / "data").mkdir(parents=True)
    for seed, split in enumerate(SPLITS):
        written = [(png(noise(2 * seed + i), "JPEG"), png(stripes([0, 1, 2]))) for i in range(2)]
        if rows is not None and split == "train":
            written = rows
        cell = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
        columns = {
            name: pa.array(
                [r if isinstance(r, dict) else {"bytes": r, "path": None} for r in column], cell
            )
            for name, column in zip(
                ("image", "annotation"), zip(*written, strict=True), strict=True
            )
        }
        pyarrow.parquet.write_table(
            pa.table(columns), root / f"data/{split}-00000-of-00001.parquet"
        )
    return source(
        root,
        layout={"kind": "parquet"},
        classes=TWO,
        splits={split: split for split in SPLITS},
        reduce_labels=True,
    )

"""Small datasets of the forms that the recipes' samples have, for where those are not."""

import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

HEIGHT, WIDTH = 48, 64

Mask = npt.NDArray[np.integer]


def co2(root: Path) -> None:
    """12 frames of 6 videos; masks of 0 and 255."""
    for image, mask, index in _scenes((0, 255), 12):
        name = f"FLIR{index // 2}_frame_{index}.png"
        _save(image, root / "images" / name)
        _save(mask.astype(np.uint8), root / "masks" / name)


def idd(root: Path) -> None:
    for image, mask, index in _scenes((0, 1, 2, 3, 4, 5, 6, 255), 8):
        split = "val" if index % 4 == 3 else "train"
        _save(image, root / f"leftImg8bit/{split}/1/{index}_image.jpg")
        _save(mask.astype(np.uint8), root / f"gtFine/{split}/1/{index}_label.png")


def brats(root: Path) -> None:
    """One case of 32x32x12 voxels, a tumour in all slices."""
    import nibabel

    rng = np.random.default_rng(0)
    labels = np.zeros((32, 32, 12), np.int16)
    labels[8:24, 8:24], labels[12:20, 12:20], labels[14:18, 14:18] = 2, 1, 3
    case = root / "BraTS-MADE-00001-000"
    case.mkdir(parents=True)
    for name in ("t1c", "t2w", "t2f", "seg"):
        voxels = rng.integers(100, 300, labels.shape).astype(np.int16) + 200 * labels
        made = labels if name == "seg" else voxels
        nibabel.Nifti1Image(made, np.eye(4)).to_filename(case / f"{case.name}-{name}.nii.gz")


def voc(root: Path) -> None:
    """Two images to train on and one of val, in a tar."""
    base = root / "made/VOCdevkit/VOC2012"
    lists = base / "ImageSets/Segmentation"
    lists.mkdir(parents=True)
    for image, mask, index in _scenes((0, 7, 15, 255), 3):
        _save(image, base / f"JPEGImages/2011_{index}.jpg")
        _save(mask.astype(np.uint8), base / f"SegmentationClass/2011_{index}.png")
    (lists / "train.txt").write_text("2011_0\n2011_1\n")
    (lists / "val.txt").write_text("2011_2\n")
    with tarfile.open(root / "VOCtrainval_sample.tar", "w") as tar:
        tar.add(root / "made/VOCdevkit", "VOCdevkit")


def desert(root: Path) -> None:
    """Masks of 16 bits."""
    for image, mask, index in _scenes((100, 300, 550, 7100, 10000), 8):
        split = "val" if index % 4 == 3 else "train"
        _save(image, root / split / f"Color_Images/{index}.png")
        _save(mask.astype(np.uint16), root / split / f"Segmentation/{index}.png")


def camvid(root: Path) -> None:
    """Lists of image and mask; id 11 is void."""
    listed: dict[str, list[str]] = {"train": [], "val": [], "test": []}
    for image, mask, index in _scenes((0, 1, 3, 11), 12):
        split = {4: "val", 5: "test"}.get(index % 6, "train")
        _save(image, root / split / f"{index}.jpg")
        _save(mask.astype(np.uint8), root / f"{split}annot/{index}.png")
        listed[split].append(f"{split}/{index}.jpg {split}annot/{index}.png\n")
    for split, lines in listed.items():
        (root / f"{split}.txt").write_text("".join(lines))


MADE: dict[str, Callable[[Path], None]] = {
    "co2": co2, "idd": idd, "brats": brats, "voc": voc, "desert": desert, "camvid": camvid,
}  # fmt: skip


def _scenes(
    values: tuple[int, ...], count: int
) -> Iterator[tuple[npt.NDArray[np.uint8], Mask, int]]:
    """Blocks of the values, each of its own brightness, under noise."""
    rng = np.random.default_rng(0)
    for index in range(count):
        which = rng.integers(len(values), size=(HEIGHT // 16, WIDTH // 16))
        which[0] = np.resize(np.arange(len(values)), WIDTH // 16)
        blocks = np.kron(which, np.ones((16, 16), np.int64))
        image = rng.integers(0, 40, (HEIGHT, WIDTH, 3)) + (200 // len(values)) * blocks[..., None]
        yield image.astype(np.uint8), np.array(values)[blocks], index


def _save(pixels: Mask, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)

"""Registration: what is found, and what every bad file is told."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kdcore.data.samples import Samples
from kdcore.data.scan import scan
from kdcore.errors import DatasetInvalid
from kdcore.spec.dataset import DatasetManifest, DatasetSource


@pytest.fixture
def mine(source: DatasetSource, tmp_path: Path) -> DatasetSource:
    """A copy that a test may damage."""
    shutil.copytree(source.root, tmp_path / "mine")
    return source.model_copy(update={"root": str(tmp_path / "mine")})


def problems(source: DatasetSource) -> dict[str, str]:
    with pytest.raises(DatasetInvalid) as caught:
        scan(source)
    return {problem.file: problem.reason for problem in caught.value.problems}


def save(pixels: np.ndarray, path: Path) -> None:
    Image.fromarray(pixels).save(path)


def test_the_manifest_counts_raw_pixels(manifest: DatasetManifest) -> None:
    assert {name: len(samples) for name, samples in manifest.splits.items()} == {
        "train": 8, "val": 3, "test": 3,
    }  # fmt: skip
    assert len(manifest.unlabelled) == 6
    counted = manifest.statistics["train"]
    assert sum(counted.class_pixels) + counted.ignored_pixels == 8 * 40 * 48
    assert all(pixels > 0 for pixels in counted.class_pixels)


def test_equal_files_have_an_equal_fingerprint(
    mine: DatasetSource, manifest: DatasetManifest
) -> None:
    assert scan(mine).fingerprint() == manifest.fingerprint()
    mask = Path(mine.root) / "train/masks/000.png"
    pixels = np.array(Image.open(mask))
    pixels[0, 0] = 1
    save(pixels, mask)
    assert scan(mine).fingerprint() != manifest.fingerprint()


def test_what_is_resized_is_counted_before_and_read_after(
    source: DatasetSource, manifest: DatasetManifest
) -> None:
    smaller = source.model_copy(update={"resize": (20, 16)})
    resized = scan(smaller)
    assert resized.statistics == manifest.statistics
    assert resized.fingerprint() != manifest.fingerprint()
    assert DatasetManifest.model_validate_json(resized.model_dump_json()) == resized
    samples = Samples(Path(source.root), resized, resized.splits["train"])
    image, mask = samples[0]
    assert (tuple(image.shape), tuple(mask.shape)) == ((3, 20, 16), (20, 16))
    assert (samples.entries[0].height, samples.entries[0].width) == (20, 16)
    assert set(mask.unique().tolist()) <= {0, 1, 2}
    pool = Samples(Path(source.root), resized, resized.unlabelled)
    assert tuple(pool[0][0].shape) == (3, 20, 16)


def test_every_bad_file_is_named_with_its_reason(mine: DatasetSource) -> None:
    root = Path(mine.root)
    (root / "train/images/000.png").write_bytes(b"not a picture")
    whole = (root / "train/images/001.png").read_bytes()
    (root / "train/images/001.png").write_bytes(whole[: len(whole) // 2])
    (root / "train/masks/002.png").unlink()
    (root / "train/images/003.png").unlink()
    save(np.zeros((10, 10), np.uint8), root / "train/masks/004.png")
    save(np.full((40, 48), 9, np.uint8), root / "train/masks/005.png")
    save(np.zeros((40, 48, 3), np.uint8), root / "train/masks/006.png")
    (root / "val/images/notes.txt").write_text("hello")
    shutil.copy(root / "train/images/007.png", root / "test/images/001.png")
    (root / "pool/images/000.png").write_bytes(b"")
    shutil.copy(root / "val/images/000.png", root / "pool/images/001.png")
    (root / "train/images/folder.png").mkdir()
    os.mkfifo(root / "train/masks/pipe.png")
    found = problems(mine)
    expected = {
        "train/images/000.png": "cannot be decoded",
        "train/images/001.png": "cannot be decoded",
        "train/images/002.png": "no mask of the same name",
        "train/masks/003.png": "no image of the same name",
        "train/masks/004.png": "mask is 10x10, its image 48x40",
        "train/masks/005.png": "ids that no class has: 9",
        "train/masks/006.png": "mode RGB",
        "val/images/notes.txt": "not an image file",
        "test/images/001.png": "same image is in train: train/images/007.png",
        "pool/images/000.png": "cannot be decoded",
        "pool/images/001.png": "same image is in val: val/images/000.png",
        "train/images/folder.png": "not a regular file",
        "train/masks/pipe.png": "not a regular file",
    }
    assert found.keys() == expected.keys()
    for file, reason in expected.items():
        assert reason in found[file]


def test_missing_and_empty_folders(mine: DatasetSource) -> None:
    shutil.rmtree(Path(mine.root) / "val")
    for kind in ("images", "masks"):
        shutil.rmtree(Path(mine.root) / "test" / kind)
        (Path(mine.root) / "test" / kind).mkdir()
    found = problems(mine)
    assert found["val/images"] == "no such folder" or "no images" in found["val/images"]
    assert found["val/masks"] == "no such folder"
    assert found["test/images"] == "no images found here"


def test_a_link_out_of_the_folder_is_refused(mine: DatasetSource, tmp_path: Path) -> None:
    outside = tmp_path / "secret.png"
    save(np.zeros((40, 48, 3), np.uint8), outside)
    link = Path(mine.root) / "train/images/000.png"
    link.unlink()
    link.symlink_to(outside)
    found = problems(mine)
    assert "leads out" in found["train/images/000.png"]


def test_a_decompression_bomb_is_not_decoded(
    mine: DatasetSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kdcore.data.reading.PIXELS_MAX", 1000)
    assert all("48x40 pixels" in reason for reason in problems(mine).values())


def test_raw_ids_beyond_8_bits_and_ignored_ones(tmp_path: Path) -> None:
    for split in ("train", "val"):
        for kind in ("images", "masks"):
            (tmp_path / split / kind).mkdir(parents=True)
        tint = 10 if split == "train" else 20
        save(np.full((4, 4, 3), tint, np.uint8), tmp_path / split / "images/a.png")
        raw = np.array([[100, 7100, 10000, 255]] * 4, np.uint16)
        save(raw, tmp_path / split / "masks/a.png")
    described = {
        "name": "raw",
        "root": str(tmp_path),
        "splits": {"train": "train", "val": "val"},
        "classes": [
            {"name": "a", "raw_ids": [100]},
            {"name": "b", "raw_ids": [7100, 10000]},
        ],
    }
    counted = scan(DatasetSource.model_validate(described)).statistics["train"]
    assert counted.class_pixels == (4, 8)
    assert counted.ignored_pixels == 4

"""Every layout gives the same kind of manifest, with the classes and pixels that are there."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import ValidationError

from kdcore.data.layouts.opening import MARK
from kdcore.data.samples import Samples
from kdcore.data.scan import files_root, scan
from kdcore.errors import SpecError
from kdcore.spec.dataset import DatasetManifest, DatasetSource
from tests.kdcore.data import making
from tests.kdcore.data.making import (
    folders,
    noise,
    opened,
    problems,
    save,
    scanned,
    source,
    stripes,
)


def counted(manifest: DatasetManifest, split: str = "train") -> tuple[list[int], int]:
    statistics = manifest.statistics[split]
    return list(statistics.class_pixels), statistics.ignored_pixels


def first(described: DatasetSource, manifest: DatasetManifest, tmp_path: Path) -> torch.Tensor:
    """The mask that training sees of the first sample."""
    root = files_root(described, tmp_path / "converted")
    return Samples(root, manifest, manifest.splits["train"])[0][1]


def test_suffixes_subfolders_and_different_endings(tmp_path: Path) -> None:
    for seed, split in enumerate(making.SPLITS):
        for scene in ("x", "y"):
            base = tmp_path / split / scene
            save(noise(10 * seed + (scene == "y")), base / "1_image.webp", lossless=True)
            save(stripes([0, 1]), base / "1_mask.tif")
    layout = {"images": "{split}", "masks": "{split}", "recursive": True,
              "image_suffix": "_image", "mask_suffix": "_mask"}  # fmt: skip
    described = source(
        tmp_path, layout=layout, classes=making.TWO, splits={"train": "train", "val": "val"}
    )
    manifest = scan(described)
    assert [sample.id for sample in manifest.splits["train"]] == ["x/1", "y/1"]
    assert counted(manifest) == ([48, 48], 0)


def test_binary_masks_of_0_and_255(tmp_path: Path) -> None:
    folders(tmp_path, stripes([0, 255]))
    classes = [{"name": "air", "raw_ids": [0]}, {"name": "plume", "raw_ids": [255]}]
    splits = {"train": "train", "val": "val"}
    with pytest.raises(ValidationError, match="null means that nothing is ignored"):
        source(tmp_path, classes=classes, splits=splits)
    described = source(tmp_path, classes=classes, splits=splits, ignore_index=None)
    assert counted(scan(described)) == ([24, 24], 0)


def test_colours_become_ids_and_unknown_ones_are_named(tmp_path: Path) -> None:
    road, sky, void = (128, 64, 128), (70, 130, 180), (0, 0, 0)
    picture = np.array([[road, sky, void, road, sky, void, road, road]] * 6, np.uint8)
    folders(tmp_path, picture)
    fields = {
        "masks": "colors",
        "classes": [{"name": "road", "color": road}, {"name": "sky", "color": sky}],
        "ignored_colors": [void],
        "splits": {"train": "train", "val": "val"},
    }
    described = source(tmp_path, **fields)
    manifest = scan(described)
    assert counted(manifest) == ([24, 12], 12)
    assert first(described, manifest, tmp_path)[0].tolist() == [0, 1, 255, 0, 1, 255, 0, 0]
    # The same colours from a palette.
    Image.fromarray(picture).quantize(8).save(tmp_path / "train/masks/a.png")
    assert counted(scan(described)) == ([24, 12], 12)
    picture[2, 3] = (1, 2, 3)
    save(picture, tmp_path / "val/masks/a.png")
    ((file, reason),) = problems(described, tmp_path)
    assert (file, reason) == ("val/masks/a.png", "mask holds colours that no class has: #010203")


def test_ids_of_16_bits_survive(tmp_path: Path) -> None:
    folders(tmp_path, stripes([100, 10000], np.uint16))
    classes = [{"name": "tree", "raw_ids": [100]}, {"name": "sky", "raw_ids": [10000]}]
    manifest = scan(source(tmp_path, classes=classes, splits={"train": "train", "val": "val"}))
    assert counted(manifest) == ([24, 24], 0)


def test_reduced_labels_are_said_and_undone(tmp_path: Path) -> None:
    folders(tmp_path, stripes([0, 1, 2, 255]))
    described = source(
        tmp_path, classes=making.TWO, splits={"train": "train", "val": "val"}, reduce_labels=True
    )
    manifest = scan(described)
    assert counted(manifest) == ([12, 12], 24)
    assert first(described, manifest, tmp_path)[0, :4].tolist() == [255, 0, 1, 255]
    assert [entry.raw_ids for entry in manifest.classes] == [(1,), (2,)]


@pytest.mark.parametrize("packed", [False, True])
def test_voc_from_the_tar_is_voc_from_the_folder(packed: bool, tmp_path: Path) -> None:
    archived = making.voc_archive(tmp_path, packed=packed)
    from_tar = scanned(archived, tmp_path)
    from_folder = scan(making.source(tmp_path / "plain", layout={"kind": "voc"}))
    assert from_tar == from_folder
    assert from_tar.fingerprint() == from_folder.fingerprint()
    assert len(from_tar.classes) == 21
    assert from_tar.classes[20].name == "tvmonitor"
    assert from_tar.statistics["train"].ignored_pixels == 12
    assert from_tar.splits["train"][0].image.path == "VOCdevkit/VOC2012/JPEGImages/train_1.jpg"
    taken = {p.name for p in (tmp_path / "converted").rglob("*") if p.is_file()}
    assert "not_listed.jpg" not in taken


@pytest.mark.parametrize(("labels", "raw"), [("labelTrainIds", None), ("labelIds", (7,))])
def test_cityscapes(labels: str, raw: tuple[int, ...] | None, tmp_path: Path) -> None:
    making.cityscapes(tmp_path)
    manifest = scan(source(tmp_path, layout={"kind": "cityscapes", "labels": labels}))
    assert [sample.id for sample in manifest.splits["train"]] == ["a/a_000000", "b/b_000000"]
    assert all(labels in s.mask.path for s in manifest.splits["train"] if s.mask)
    assert manifest.classes[0].raw_ids == raw
    pixels, ignored = counted(manifest)
    assert (pixels[0], pixels[18], sum(pixels), ignored) == (36, 36, 72, 24)


def test_idd_with_instance_masks_beside(tmp_path: Path) -> None:
    for seed, split in enumerate(making.SPLITS):
        save(noise(seed), tmp_path / f"leftImg8bit/{split}/7/1_image.jpg")
        save(stripes([0, 6, 255]), tmp_path / f"gtFine/{split}/7/1_label.png")
        save(stripes([9]), tmp_path / f"gtFine/{split}/7/1_inst_label.png")
    manifest = scan(source(tmp_path, layout={"kind": "idd"}))
    assert [entry.name for entry in manifest.classes][::6] == ["drivable", "sky"]
    assert counted(manifest)[1] == 12


def test_idd_with_palette_masks(tmp_path: Path) -> None:
    picture = np.array([[(128, 64, 128), (70, 130, 180), (0, 0, 0), (255, 204, 54)] * 2] * 6)
    for seed, split in enumerate(making.SPLITS):
        save(noise(seed), tmp_path / split / "images/1.jpg")
        save(picture.astype(np.uint8), tmp_path / split / "rgb_labels/1.png")
    layout = {"kind": "idd", "images": "{split}/images", "masks": "{split}/rgb_labels",
              "image_suffix": "", "mask_suffix": "", "level": 3}  # fmt: skip
    described = source(tmp_path, layout=layout, masks="colors", ignored_colors=[(0, 0, 0)])
    pixels, ignored = counted(scan(described))
    assert (len(pixels), pixels[0], pixels[8], pixels[25], ignored) == (26, 12, 12, 12, 12)


def test_camvid_lists(tmp_path: Path) -> None:
    described = making.camvid(tmp_path)
    manifest = scan(described)
    assert (len(manifest.classes), manifest.ignore_index) == (11, 11)
    assert counted(manifest, "test")[1] == 12
    for split in manifest.splits:
        path = tmp_path / f"{split}.txt"
        path.write_text(path.read_text().replace(f"{split}/", f"/SegNet/{split}/").replace(
            f" {split}annot", f" /SegNet/{split}annot"))  # fmt: skip
    stripped = source(tmp_path, layout={"kind": "camvid", "strip": "/SegNet/"})
    assert scan(stripped).fingerprint() == manifest.fingerprint()


@pytest.mark.parametrize("enhancing", [3, 4])
def test_brats_subregions(enhancing: int, tmp_path: Path) -> None:
    pytest.importorskip("nibabel")
    described = making.brats(tmp_path, target="subregions")
    if enhancing == 4:
        import nibabel

        for path in tmp_path.rglob("*-seg.nii.gz"):
            labels = np.asarray(nibabel.load(path).dataobj).copy()
            labels[labels == 3] = 4
            making.volume(path, labels)
    manifest = scanned(described, tmp_path)
    assert counted(manifest) == ([2 * 84, 16, 54, 2], 0)
    assert [sample.id for sample in manifest.splits["train"]] == [
        "BraTS-1-000_0002", "BraTS-1-000_0003",
    ]  # fmt: skip
    entry = manifest.splits["train"][0].image
    assert opened(tmp_path / "converted" / entry.path).size == (10, 12)


@pytest.mark.parametrize(
    ("layout", "slices", "mode"),
    [
        ({"modalities": ["t2f"]}, 2, "L"),
        ({"modalities": ["t1c", "t2f"]}, 2, "RGB"),
        ({"keep": "brain"}, 5, "RGB"),
        ({"keep": "all", "every": 2}, 3, "RGB"),
        ({"axis": 0}, 6, "RGB"),
    ],
)
def test_brats_choices(layout: dict[str, object], slices: int, mode: str, tmp_path: Path) -> None:
    pytest.importorskip("nibabel")
    manifest = scanned(making.brats(tmp_path, **layout), tmp_path)
    assert len(manifest.splits["train"]) == slices
    entry = manifest.splits["train"][0].image
    assert opened(tmp_path / "converted" / entry.path).mode == mode
    assert [entry.name for entry in manifest.classes] == ["background", "whole tumour"]


@pytest.mark.parametrize(
    ("target", "pixels"), [("whole", [24, 24]), ("subregions", [24, 0, 12, 12])]
)
def test_hdf5_slices(target: str, pixels: list[int], tmp_path: Path) -> None:
    pytest.importorskip("h5py")
    manifest = scanned(making.hdf5(tmp_path, target=target), tmp_path)
    assert counted(manifest) == (pixels, 0)
    assert [sample.id for sample in manifest.splits["train"]] == ["volume_0_slice_1"]
    assert len(scanned(making.hdf5(tmp_path / "all", keep="all"), tmp_path).splits["val"]) == 2


def test_coco_small_things_lie_over_large_ones(tmp_path: Path) -> None:
    pytest.importorskip("pycocotools")
    square = [[0, 0, 4, 0, 4, 4, 0, 4]]
    whole = [[-3, -3, 99, -3, 99, 99, -3, 99]]
    described = making.coco(
        tmp_path,
        {"id": 1, "image_id": 5, "category_id": 18, "segmentation": square},
        {"id": 2, "image_id": 5, "category_id": 17, "segmentation": whole},
        # Two columns at the right, as run lengths.
        {"id": 3, "image_id": 5, "category_id": 18, "iscrowd": 0,
         "segmentation": {"size": [6, 8], "counts": [36, 12]}},
    )  # fmt: skip
    manifest = scanned(described, tmp_path)
    assert counted(manifest) == ([0, 48 - 16 - 12, 28], 0)
    assert counted(manifest, "val") == ([32, 16, 0], 0)


def test_coco_crowds_are_ignored_and_packed_run_lengths_read(tmp_path: Path) -> None:
    mask = pytest.importorskip("pycocotools.mask")
    painted = np.zeros((6, 8), np.uint8, order="F")
    painted[1:3, 2:7] = 1
    runs = mask.encode(painted)
    described = making.coco(
        tmp_path,
        {"id": 1, "image_id": 5, "category_id": 17, "iscrowd": 1,
         "segmentation": {"size": [6, 8], "counts": runs["counts"].decode()}},
    )  # fmt: skip
    assert counted(scanned(described, tmp_path)) == ([38, 0, 0], 10)


def test_parquet(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    described = making.parquet(tmp_path)
    manifest = scanned(described, tmp_path)
    assert counted(manifest)[0] == [2 * 18, 2 * 12]
    sample = manifest.splits["train"][0]
    assert sample.image.path == "train/images/train-00000-of-00001_000000.jpg"
    assert first(described, manifest, tmp_path)[0, :3].tolist() == [255, 0, 1]


def test_dealt_splits_keep_groups_together_and_stay(tmp_path: Path) -> None:
    def make(videos: range) -> DatasetManifest:
        for video in videos:
            for frame in range(4):
                save(noise(100 * video + frame), tmp_path / f"images/v{video}_f{frame}.png")
                save(stripes([0, 1]), tmp_path / f"masks/v{video}_f{frame}.png")
        return scan(source(
            tmp_path, layout={"images": "images", "masks": "masks"}, classes=making.TWO,
            deal={"val": 0.2, "test": 0.2, "group_before": "_f"},
        ))  # fmt: skip

    def videos(manifest: DatasetManifest) -> dict[str, set[str]]:
        return {
            name: {sample.id.split("_")[0] for sample in samples}
            for name, samples in manifest.splits.items()
        }

    before = make(range(10))
    assert {name: len(samples) for name, samples in before.splits.items()} == {
        "train": 24, "val": 8, "test": 8,
    }  # fmt: skip
    found = videos(before)
    assert not found["train"] & found["val"] | found["val"] & found["test"]
    assert make(range(0)).fingerprint() == before.fingerprint()


def test_dealing_in_blocks_cuts_in_order(tmp_path: Path) -> None:
    for frame in range(8):
        save(noise(frame), tmp_path / f"images/v_f{frame}.png")
        save(stripes([0, 1]), tmp_path / f"masks/v_f{frame}.png")
    manifest = scan(source(
        tmp_path, layout={"images": "images", "masks": "masks"}, classes=making.TWO,
        deal={"val": 0.25, "group_before": "_f", "blocks": True},
    ))  # fmt: skip
    assert [sample.id for sample in manifest.splits["val"]] == ["v_f6", "v_f7"]


def test_a_conversion_needs_a_folder_of_its_own(tmp_path: Path) -> None:
    described = making.voc_archive(tmp_path)
    with pytest.raises(SpecError, match="no folder for them is given"):
        scan(described)
    converted = tmp_path / "converted"
    before = scanned(described, tmp_path)
    assert (converted / MARK).exists()
    assert scanned(described, tmp_path) == before
    (converted / MARK).unlink()
    with pytest.raises(SpecError, match="no conversion put there"):
        scanned(described, tmp_path)


def test_a_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "h5py", None)
    described = source(tmp_path, layout={"kind": "hdf5"})
    with pytest.raises(SpecError, match="needs the package h5py") as caught:
        scanned(described, tmp_path)
    assert caught.value.remedy == "pip install h5py"


def test_fingerprints_from_before_there_were_colours_stay() -> None:
    file = {"path": "a.png", "sha256": "0" * 64, "size": 1}
    manifest = DatasetManifest.model_validate({
        "classes": [{"name": "a"}, {"name": "b", "raw_ids": [3]}],
        "ignore_index": 255,
        "splits": {"train": [{"id": "a", "image": file, "mask": file, "height": 1, "width": 1}]},
        "statistics": {"train": {"class_pixels": [1, 0], "ignored_pixels": 0}},
    })  # fmt: skip
    assert manifest.fingerprint() == FINGERPRINT


FINGERPRINT = "e73347f2ffc3a0b43a50bdd6950d4097289cc32f6ce8131657505b9e180dcf55"


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"masks": "colors"}, "needs the color of ground"),
        ({"ignored_colors": [[0, 0, 0]]}, "only for `masks: colors`"),
        ({"ignored_ids": [1]}, "also belongs to a class"),
        ({"reduce_labels": True, "classes": [{"name": "a", "raw_ids": [4]}, {"name": "b"}]}, "raw_ids"),
        ({"deal": {"val": 0.5}}, "must not hold {split}"),
        ({"deal": {"val": 0.5, "test": 0.5}}, "nothing to train on"),
        ({"layout": {"kind": "brats", "window": [60, 40]}}, "percentile"),
        ({"layout": {"kind": "brats", "modalities": ["t1", "t1"]}}, "named once"),
        ({"layout": {"kind": "zip"}}, "zip"),
        ({"layout": {"kind": "voc", "archive": "../x.tar"}}, "stays below"),
    ],
)  # fmt: skip
def test_sources_that_contradict_themselves(fields: dict[str, object], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        DatasetSource.model_validate({"name": "a", "root": ".", "classes": making.TWO, **fields})


def test_a_table_may_be_replaced() -> None:
    described = source(Path(), layout={"kind": "camvid"}, classes=making.TWO)
    assert (len(described.classes), described.ignore_index) == (2, 255)
    again = DatasetSource.model_validate_json(described.model_dump_json())
    assert again == described

"""Real samples of every published layout register with the classes that their owners name."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from kdcore.data.samples import Samples
from kdcore.data.scan import files_root, scan
from kdcore.spec.class_tables import IDD_LEVEL_1
from kdcore.spec.dataset import DatasetManifest, DatasetSource
from tests.kdcore.data import making
from tests.kdcore.data.making import scanned, source
from tests.samples import SAMPLES, needs

OFFROAD = [
    ("Trees", 100, 3.9), ("Lush Bushes", 200, 5.1), ("Dry Grass", 300, 18.4),
    ("Dry Bushes", 500, 1.2), ("Ground Clutter", 550, 4.9), ("Flowers", 600, 0.9),
    ("Logs", 700, 0.04), ("Rocks", 800, 1.0), ("Landscape", 7100, 26.4), ("Sky", 10000, 38.2),
]  # fmt: skip
CO2: dict[str, Any] = {
    "layout": {"images": "images", "masks": "masks"},
    "classes": [{"name": "air", "raw_ids": [0]}, {"name": "plume", "raw_ids": [255]}],
    "ignore_index": None,
    "deal": {"val": 0.25, "group_before": "_frame_"},
}


def sizes(manifest: DatasetManifest) -> dict[str, int]:
    return {name: len(found) for name, found in manifest.splits.items()}


def pixels(manifest: DatasetManifest, split: str = "train") -> tuple[int, ...]:
    return manifest.statistics[split].class_pixels


def shares(manifest: DatasetManifest) -> list[float]:
    """Percent of train's pixels: of every class, then of what is ignored."""
    ignored = manifest.statistics["train"].ignored_pixels
    counts = (*pixels(manifest), ignored)
    return [100 * count / sum(counts) for count in counts]


def opened(described: DatasetSource, manifest: DatasetManifest, tmp_path: Path) -> Samples:
    return Samples(files_root(described, tmp_path / "converted"), manifest, manifest.splits["val"])


@needs("data/offroad_sample")
def test_offroad_ids_up_to_10000_survive(tmp_path: Path) -> None:
    described = source(
        SAMPLES / "offroad_sample/Offroad_Segmentation_Training_Dataset",
        layout={"images": "{split}/Color_Images", "masks": "{split}/Segmentation"},
        classes=[{"name": name, "raw_ids": [raw]} for name, raw, _ in OFFROAD],
        splits={"train": "train", "val": "val"},
        ignore_index=None,
    )
    manifest = scan(described)
    assert sizes(manifest) == {"train": 24, "val": 8}
    assert shares(manifest)[:-1] == pytest.approx([share for *_, share in OFFROAD], abs=0.06)
    seen = {
        int(value) for _, mask in opened(described, manifest, tmp_path) for value in mask.unique()
    }
    assert {0, 8, 9} <= seen <= set(range(10))


@needs("data/voc_sample")
def test_voc_straight_from_the_tar(tmp_path: Path) -> None:
    described = source(
        SAMPLES / "voc_sample", layout={"kind": "voc", "archive": "VOCtrainval_sample.tar"}
    )
    manifest = scanned(described, tmp_path)
    assert sizes(manifest) == {"train": 2, "val": 1}
    assert (len(manifest.classes), manifest.classes[15].name) == (21, "person")
    present = {
        manifest.classes[index].name
        for split in manifest.splits
        for index, count in enumerate(pixels(manifest, split))
        if count
    }
    assert present == {"background", "bottle", "bus", "car", "chair", "person", "sofa"}
    ignored = sum(statistics.ignored_pixels for statistics in manifest.statistics.values())
    assert ignored / (2 * 500 * 338 + 500 * 375) == pytest.approx(0.019, abs=0.002)


@needs("data/idd_lite_sample")
def test_idd_lite_by_ids() -> None:
    manifest = scan(source(SAMPLES / "idd_lite_sample/idd20k_lite", layout={"kind": "idd"}))
    assert sizes(manifest) == {"train": 36, "val": 12}
    assert [entry.name for entry in manifest.classes] == [
        "drivable", "non-drivable", "living things", "vehicles", "roadside objects",
        "far objects", "sky",
    ]  # fmt: skip
    assert all(pixels(manifest))


@needs("data/idd_lite_sample")
def test_idd_lite_by_colours_says_the_same(tmp_path: Path) -> None:
    """Its masks painted in the classes' colours, unlabelled as (0, 0, 0): the full IDD's form."""
    root = SAMPLES / "idd_lite_sample/idd20k_lite"
    by_id = scan(source(root, layout={"kind": "idd"}))
    colours = np.zeros((256, 3), np.uint8)
    colours[:7] = [entry["color"] for entry in IDD_LEVEL_1]
    for split, found in by_id.splits.items():
        for index, sample in enumerate(found):
            assert sample.mask is not None
            folder = tmp_path / split
            making.save(
                colours[np.asarray(making.opened(root / sample.mask.path))],
                folder / f"rgb_labels/{index}.png",
            )
            (folder / "images").mkdir(exist_ok=True)
            (folder / f"images/{index}.jpg").write_bytes((root / sample.image.path).read_bytes())
    layout = {"kind": "idd", "images": "{split}/images", "masks": "{split}/rgb_labels",
              "image_suffix": "", "mask_suffix": ""}  # fmt: skip
    by_colour = scan(source(tmp_path, layout=layout, masks="colors", ignored_colors=[(0, 0, 0)]))
    assert by_colour.statistics == by_id.statistics


@needs("data/brats_sample")
def test_brats_volumes(tmp_path: Path) -> None:
    pytest.importorskip("nibabel")
    described = source(
        SAMPLES / "brats_sample",
        layout={"kind": "brats", "folder": ".", "target": "subregions"},
        deal={"val": 0.25, "blocks": True},
        resize=(128, 128),
    )
    manifest = scanned(described, tmp_path)
    assert sizes(manifest) == {"train": 24, "val": 8}
    assert [entry.name for entry in manifest.classes] == [
        "background", "necrotic core", "oedema", "enhancing tumour",
    ]  # fmt: skip
    assert all(pixels(manifest))
    image, mask = opened(described, manifest, tmp_path)[0]
    assert (tuple(image.shape), tuple(mask.shape)) == ((3, 128, 128), (128, 128))
    assert len({channel.float().mean().item() for channel in image}) == 3


@needs("data/co2_plume_sample")
def test_co2_masks_of_0_and_255() -> None:
    manifest = scan(source(SAMPLES / "co2_plume_sample", **CO2))
    assert sum(sizes(manifest).values()) == 13
    assert all(pixels(manifest))
    assert all(statistics.ignored_pixels == 0 for statistics in manifest.statistics.values())


@needs("data/cityscapes_sample")
def test_cityscapes_by_train_id_and_by_id(tmp_path: Path) -> None:
    """The sample is one frame of val; train is made."""
    making.cityscapes(tmp_path)
    sample = SAMPLES / "cityscapes_sample"
    for top in ("leftImg8bit", "gtFine"):
        for path in (sample / top / "val/frankfurt").iterdir():
            target = tmp_path / top / "val/frankfurt" / path.name
            target.parent.mkdir(exist_ok=True)
            target.write_bytes(path.read_bytes())
    by_train_id = scan(source(tmp_path, layout={"kind": "cityscapes"}))
    by_id = scan(source(tmp_path, layout={"kind": "cityscapes", "labels": "labelIds"}))
    assert len(by_id.classes) == 19
    # The two layers were made small separately, so that a few pixels at borders differ.
    assert pixels(by_train_id, "val") == pytest.approx(pixels(by_id, "val"), abs=10)
    frame = next(s for s in by_id.splits["val"] if "frankfurt" in s.id)
    samples = Samples(tmp_path, by_id, [frame])
    assert (samples[0][1] == 255).float().mean().item() == pytest.approx(0.118, abs=0.001)


@needs("data/camvid")
@pytest.mark.slow
def test_camvid() -> None:
    manifest = scan(source(SAMPLES / "camvid", layout={"kind": "camvid"}))
    assert sizes(manifest) == {"train": 367, "val": 101, "test": 233}
    expected = [16.9, 23.3, 1.0, 31.7, 4.5, 9.7, 1.2, 1.1, 5.9, 0.6, 0.3, 4.0]
    assert shares(manifest) == pytest.approx(expected, abs=0.06)
    assert json.loads(manifest.model_dump_json())["ignore_index"] == 11


@needs("data/nuclei")
@pytest.mark.slow
def test_nuclei_with_its_pool() -> None:
    manifest = scan(
        source(
            SAMPLES / "nuclei",
            layout={"kind": "folders", "unlabelled": "unlabelled/images"},
            classes=[{"name": "background"}, {"name": "nucleus"}, {"name": "boundary"}],
            ignore_index=None,
        )
    )
    assert sizes(manifest) == {"train": 120, "val": 32, "test": 32}
    assert all(pixels(manifest))
    with Image.open(SAMPLES / "nuclei" / manifest.unlabelled[0].image.path) as image:
        assert image.size == (256, 256)

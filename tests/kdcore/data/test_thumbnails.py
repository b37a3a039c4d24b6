"""Small pictures of samples, their masks over them."""

from pathlib import Path

import numpy as np

from kdcore.data.scan import scan
from kdcore.data.thumbnails import Album
from tests import shapes
from tests.kdcore.data import making
from tests.kdcore.data.making import noise, opened, save, source, stripes


def test_thumbnails(tmp_path: Path) -> None:
    scan(making.voc(tmp_path / "voc"), thumbnails=Album(tmp_path / "voc-small"))
    made = (tmp_path / "voc-small").rglob("*.webp")
    assert {path.relative_to(tmp_path).as_posix() for path in made} == {
        "voc-small/train/0.webp", "voc-small/val/0.webp",
    }  # fmt: skip
    save(np.zeros((400, 900, 3), np.uint8), tmp_path / "big/train/images/a.png")
    save(np.ones((400, 900), np.uint8), tmp_path / "big/train/masks/a.png")
    save(noise(3), tmp_path / "big/val/images/a.png")
    save(stripes([0, 255]), tmp_path / "big/val/masks/a.png")
    classes = [{"name": "a"}, {"name": "b", "color": [200, 0, 0]}]
    big = source(tmp_path / "big", classes=classes, splits={"train": "train", "val": "val"})
    scan(big, thumbnails=Album(tmp_path / "small"))
    small = opened(tmp_path / "small/train/0.webp")
    assert small.size == (192, 85)
    red, green, _ = small.getpixel((90, 40))
    assert red > 70
    assert green < 20


def test_few_thumbnails_are_spread_over_the_split(tmp_path: Path) -> None:
    described = shapes.make_shapes(tmp_path / "shapes")
    manifest = scan(described, thumbnails=Album(tmp_path / "small", each=3))
    shown = {
        folder.name: sorted(int(path.stem) for path in folder.iterdir())
        for folder in (tmp_path / "small").iterdir()
    }
    assert shown == {
        "train": [0, 2, 5],
        "val": [0, 1, 2],
        "test": [0, 1, 2],
        "unlabelled": [0, 2, 4],
    }
    sample = manifest.splits["train"][5]
    bare = np.asarray(opened(tmp_path / "shapes" / sample.image.path)).astype(int)
    small = np.asarray(opened(tmp_path / "small/train/5.webp")).astype(int)
    mask = np.asarray(opened(tmp_path / "shapes" / sample.mask.path))
    assert small.shape == bare.shape
    change = [abs(small - bare)[mask == id].mean() for id in range(3)]
    assert change[2] > change[0], "the third class is painted over its own pixels"

"""A small real dataset on disk: discs with a rim, on noise."""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from kdcore.spec.dataset import DatasetSource

STUDENT: dict[str, Any] = {
    "arch": "unet",
    "encoder": "tu-mobilenetv3_small_050",
    "options": {"decoder_channels": [16, 8, 8, 8, 8]},
}


def make_shapes(root: Path) -> DatasetSource:
    """8 train, 3 val, 3 test images of 48x40, and 6 images without masks."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 8), ("val", 3), ("test", 3), ("pool", 6)):
        for index in range(count):
            _write_sample(root / split, f"{index:03d}", rng)
    return DatasetSource.model_validate(
        {
            "name": "shapes",
            "root": str(root),
            "layout": {"kind": "folders", "unlabelled": "pool/images"},
            "classes": [{"name": "ground"}, {"name": "disc"}, {"name": "rim"}],
        }
    )


def _write_sample(folder: Path, name: str, rng: np.random.Generator) -> None:
    height, width = 40, 48
    rows, columns = np.mgrid[:height, :width]
    distance = np.hypot(rows - rng.integers(12, 28), columns - rng.integers(12, 36))
    mask = np.zeros((height, width), np.uint8)
    mask[distance < 9] = 2
    mask[distance < 7] = 1
    image = rng.integers(0, 60, (height, width, 3)) + 60 * mask[..., None]
    for kind, pixels in (("images", image.astype(np.uint8)), ("masks", mask)):
        (folder / kind).mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / kind / f"{name}.png")

"""Small pictures of samples, their masks over them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image

from kdcore.spec.class_tables import palette
from kdcore.spec.dataset import ClassEntry, thumbnail_path

SIDE: Final = 192
"""Longest side in pixels."""
_MASK_SHARE: Final = 0.45


@dataclass(frozen=True)
class Album:
    """Thumbnails in ``folder``, at most ``each`` of a split (all, if None), spread over it."""

    folder: Path
    each: int | None = None

    def places(self, count: int) -> frozenset[int]:
        """Which of ``count`` samples are shown."""
        if self.each is None or count <= self.each:
            return frozenset(range(count))
        return frozenset(index * count // self.each for index in range(self.each))

    def path(self, split: str, place: int) -> Path:
        """Where the thumbnail of a split's sample number ``place`` goes; the folder is made."""
        path = self.folder / thumbnail_path(split, place)
        path.parent.mkdir(parents=True, exist_ok=True)
        return path


def write_thumbnail(
    path: Path,
    image_HWC: npt.NDArray[np.uint8],
    mask_HW: npt.NDArray[np.uint8] | None,
    classes: tuple[ClassEntry, ...],
) -> None:
    """A WebP at ``path``. ``mask_HW`` holds class ids; ignored pixels show the bare image."""
    height, width, _ = image_HWC.shape
    scale = min(1.0, SIDE / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    picture = np.asarray(Image.fromarray(image_HWC).resize(size, Image.Resampling.BOX))
    if mask_HW is not None:
        ids = np.asarray(Image.fromarray(mask_HW).resize(size, Image.Resampling.NEAREST))
        shown = ids < len(classes)
        colours = _colours(classes)[np.where(shown, ids, 0)]
        mixed = (1 - _MASK_SHARE) * picture + _MASK_SHARE * colours
        picture = np.where(shown[..., None], mixed, picture).astype(np.uint8)
    Image.fromarray(picture).save(path, format="WEBP", quality=80)


def _colours(classes: tuple[ClassEntry, ...]) -> npt.NDArray[np.float64]:
    usual = palette(len(classes))
    return np.array([entry.color or usual[i] for i, entry in enumerate(classes)], dtype=np.float64)

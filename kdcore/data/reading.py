"""Decoding one image or mask file. No torch: the dataset scan runs where there is none."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from kdcore.spec.dataset import IGNORE

FORMATS = ("PNG", "JPEG", "TIFF", "WEBP", "BMP")
PIXELS_MAX = 100_000_000
_MASK_MODES = {"1", "L", "P", "I", "I;16", "I;16B", "I;16L"}


class Unreadable(Exception):
    """A file that is not a usable image or mask; the message says why."""


def read_image(source: Path | BinaryIO) -> npt.NDArray[np.uint8]:
    """RGB image, (H, W, 3) uint8, turned upright by its EXIF orientation.

    Raises: Unreadable.
    """
    with _opened(source) as image:
        upright = ImageOps.exif_transpose(image)
        if upright.mode.startswith("I"):
            return _from_16_bit(np.asarray(upright))
        return np.asarray(upright.convert("RGB"))


def read_mask(source: Path | BinaryIO) -> npt.NDArray[np.int32]:
    """Raw mask ids, (H, W) int32, exactly as stored: palette indices, 8 or 16 bit.

    Raises: Unreadable, also for colour masks, whose colours are not ids.
    """
    with _opened(source) as image:
        if image.mode not in _MASK_MODES:
            raise Unreadable(f"mask has mode {image.mode}; expected one channel of class ids")
        return np.asarray(image).astype(np.int32)


def map_ids(raw_HW: npt.NDArray[np.int32], raw_id_map: dict[int, int]) -> npt.NDArray[np.uint8]:
    """Class ids, (H, W) uint8, with ignored pixels at `IGNORE`.

    Raises: Unreadable, naming the ids that the map does not hold. Nothing is clipped.
    """
    values, inverse = np.unique(raw_HW, return_inverse=True)
    unknown = [int(value) for value in values if int(value) not in raw_id_map]
    if unknown:
        shown = ", ".join(map(str, unknown[:8])) + (" ..." if len(unknown) > 8 else "")
        raise Unreadable(f"mask holds ids that no class has: {shown}")
    table = np.array([raw_id_map[int(value)] for value in values], dtype=np.uint8)
    return table[inverse].reshape(raw_HW.shape)


def count_ids(mask_HW: npt.NDArray[np.uint8], classes: int) -> tuple[npt.NDArray[np.int64], int]:
    """Pixels per class, (C,), and the number of ignored ones."""
    counts = np.bincount(mask_HW.reshape(-1), minlength=IGNORE + 1)
    return counts[:classes].astype(np.int64), int(counts[IGNORE])


@contextmanager
def _opened(source: Path | BinaryIO) -> Iterator[Image.Image]:
    """A decoded PIL image; every way in which decoding fails becomes `Unreadable`."""
    with ExitStack() as stack:
        try:
            file = stack.enter_context(source.open("rb")) if isinstance(source, Path) else source
            image = stack.enter_context(Image.open(file, formats=FORMATS))
            if image.width * image.height > PIXELS_MAX:
                raise Unreadable(
                    f"{image.width}x{image.height} pixels; at most {PIXELS_MAX:,} are read"
                )
            image.load()
        except Unreadable:
            raise
        except OSError as error:
            reason = error.strerror or str(error)
            raise Unreadable(f"cannot be decoded: {reason}") from error
        # Pillow's decoders raise whatever their format's parser trips over.
        except Exception as error:
            raise Unreadable(f"cannot be decoded: {error}") from error
        yield image


def _from_16_bit(values_HW: npt.NDArray[np.generic]) -> npt.NDArray[np.uint8]:
    grey_HW = (values_HW.astype(np.uint32) >> 8).clip(0, 255).astype(np.uint8)
    return np.repeat(grey_HW[:, :, None], 3, axis=2)

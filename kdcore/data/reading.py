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
_COLOR_MODES = {"1", "L", "P", "RGB", "RGBA"}
_LUT_MAX = 65536


class Unreadable(Exception):
    """A file that is not a usable image or mask; the message says why."""


def read_image(source: Path | BinaryIO) -> npt.NDArray[np.uint8]:
    """RGB image, (H, W, 3) uint8, turned upright by its EXIF orientation.

    Grey becomes three equal channels, 16 bits keep their upper 8, transparency is dropped.
    Raises: Unreadable.
    """
    with _opened(source) as image:
        upright = ImageOps.exif_transpose(image)
        if upright.mode.startswith("I"):
            return _from_16_bit(np.asarray(upright))
        if upright.mode == "F":
            raise Unreadable("image has floating-point pixels; save it with 8 or 16 bits")
        if upright.mode == "P":
            # Straight to RGB, Pillow warns about palettes with transparent entries.
            upright = upright.convert("RGBA")
        return np.asarray(upright.convert("RGB"))


def read_mask(source: Path | BinaryIO, *, colors: bool = False) -> npt.NDArray[np.int32]:
    """Raw mask ids, (H, W) int32, exactly as stored: palette indices, 8 or 16 bit.

    With ``colors`` each pixel's colour as ``0xRRGGBB``. Turned upright by its EXIF orientation.
    Raises: Unreadable, without ``colors`` also for colour masks, whose colours are not ids.
    """
    with _opened(source) as image:
        if colors:
            if image.mode not in _COLOR_MODES:
                raise Unreadable(f"mask has mode {image.mode}; expected colours of 8 bits")
            mode = "RGBA" if image.mode == "P" else "RGB"
            rgb_HWC = np.asarray(ImageOps.exif_transpose(image).convert(mode)).astype(np.int32)
            return rgb_HWC[..., 0] << 16 | rgb_HWC[..., 1] << 8 | rgb_HWC[..., 2]
        if image.mode not in _MASK_MODES:
            raise Unreadable(
                f"mask has mode {image.mode}; expected one channel of class ids "
                "(`masks: colors` reads the colours of the classes)"
            )
        return np.asarray(ImageOps.exif_transpose(image)).astype(np.int32)


def map_ids(
    raw_HW: npt.NDArray[np.int32], raw_id_map: dict[int, int], *, colors: bool = False
) -> npt.NDArray[np.uint8]:
    """Class ids, (H, W) uint8, with ignored pixels at `IGNORE`.

    Raises: Unreadable, naming the ids (or colours) that the map does not hold. Nothing is clipped.
    """
    if raw_HW.size == 0 or (raw_HW.min() >= 0 and raw_HW.max() < _LUT_MAX):
        values = np.flatnonzero(np.bincount(raw_HW.reshape(-1)))
        _refuse_unknown(values, raw_id_map, colors=colors)
        table = np.zeros(_LUT_MAX, dtype=np.uint8)
        table[values] = [raw_id_map[int(value)] for value in values]
        return table[raw_HW]
    values, inverse = np.unique(raw_HW, return_inverse=True)
    _refuse_unknown(values, raw_id_map, colors=colors)
    table = np.array([raw_id_map[int(value)] for value in values], dtype=np.uint8)
    return table[inverse].reshape(raw_HW.shape)


def resized(pixels: npt.NDArray[np.uint8], size: tuple[int, int] | None) -> npt.NDArray[np.uint8]:
    """An image (H, W, 3), bilinear over all it covers, or a mask (H, W), nearest; None: as it is."""
    if size is None or pixels.shape[:2] == size:
        return pixels
    how = Image.Resampling.BILINEAR if pixels.ndim == 3 else Image.Resampling.NEAREST
    return np.array(Image.fromarray(pixels).resize((size[1], size[0]), how))


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
            if image.width * image.height == 0:
                raise Unreadable("has no pixels")
            if image.format in ("PNG", "TIFF", "WEBP") and getattr(image, "n_frames", 1) != 1:
                raise Unreadable("holds several pictures; one is expected")
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


def _refuse_unknown(
    values: npt.NDArray[np.generic], raw_id_map: dict[int, int], *, colors: bool
) -> None:
    unknown = [int(value) for value in values if int(value) not in raw_id_map]
    if not unknown:
        return
    shown = ", ".join(f"#{value:06x}" if colors else str(value) for value in unknown[:8])
    more = f" and {len(unknown) - 8} more" if len(unknown) > 8 else ""
    what = "colours" if colors else "ids"
    raise Unreadable(f"mask holds {what} that no class has: {shown}{more}")


def _from_16_bit(values_HW: npt.NDArray[np.generic]) -> npt.NDArray[np.uint8]:
    wide_HW = values_HW.astype(np.int64)
    low, high = int(wide_HW.min()), int(wide_HW.max())
    if low < 0 or high > 65535:
        raise Unreadable(f"image has values from {low} to {high}; save it with 16 bits")
    return np.repeat((wide_HW >> 8).astype(np.uint8)[:, :, None], 3, axis=2)

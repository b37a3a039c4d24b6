"""One slice an HDF5 file."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from kdcore.data.layouts.reading import NoPool, Places, Writer, at, needed, windowed
from kdcore.data.listing import Pair
from kdcore.data.reading import PIXELS_MAX
from kdcore.spec.layouts import Hdf5Layout

_SUFFIXES = frozenset({".h5", ".hdf5"})
_CHANNELS_MAX = 256


class Hdf5(NoPool):
    def __init__(self, layout: Hdf5Layout, places: Places) -> None:
        self._h5py = needed("h5py", layout.kind)
        self._layout, self._source, self._made = layout, places.given, places.made

    def pairs(self, folder: str) -> list[Pair]:
        base = self._source.root / at(self._layout.folder, folder)
        if not self._source.folder(base):
            return []
        writer = Writer(self._made, folder)
        pairs = []
        for path in sorted(base.iterdir()):
            if path.suffix.lower() not in _SUFFIXES or not self._source.file(path):
                continue
            try:
                pair = self._slice(path, writer)
            except _BadSlice as bad:
                self._source.problem(path, str(bad))
                continue
            if pair is not None:
                pairs.append(pair)
        return pairs

    def _slice(self, path: Path, writer: Writer) -> Pair | None:
        layout = self._layout
        try:
            with self._h5py.File(path, "r") as file:
                image, mask = (_array(self._h5py, file, key) for key in (layout.image, layout.mask))
        except (OSError, KeyError, RuntimeError, ValueError, TypeError) as error:
            raise _BadSlice(f"cannot be read: {error}") from error
        mask_HW = _ids(mask)
        if layout.target == "whole":
            mask_HW = (mask_HW > 0).astype(np.uint16)
        if layout.keep == "tumour" and not mask_HW.any():
            return None
        group, _, _ = path.stem.rpartition("_slice_")
        return writer.pair(
            path.stem,
            self._picture(image, mask_HW.shape),
            mask_HW,
            group=group or path.stem,
            origin=self._source.relative(path),
        )

    def _picture(self, image: npt.NDArray[Any], shape: tuple[int, ...]) -> npt.NDArray[np.uint8]:
        image_HWC = image[..., None] if image.ndim == 2 else image
        if image_HWC.ndim != 3 or image_HWC.shape[:2] != shape:
            raise _BadSlice(f"image has the shape {image.shape}, its mask {shape}")
        channels = self._layout.channels if image.ndim == 3 else (0,)
        if max(channels) >= image_HWC.shape[2]:
            raise _BadSlice(
                f"image has {image_HWC.shape[2]} channels, none of number {max(channels)}"
            )
        if not np.isfinite(image_HWC).all():
            raise _BadSlice("image holds NaN or infinite values")
        # Slices are often stored standardised: their lowest value is the air around the head.
        values = image_HWC.astype(np.float32)
        planes = [
            windowed(values[..., channel] - values[..., channel].min(), self._layout.window)
            for channel in channels
        ]
        if len(planes) == 1:
            return planes[0]
        return np.stack([*planes, np.zeros_like(planes[0])][:3], axis=-1)


class _BadSlice(Exception):
    pass


def _array(h5py: Any, file: Any, key: str) -> npt.NDArray[Any]:
    """A dataset that lies in the file itself: links and external storage would read other files."""
    link = file.get(key, getlink=True)
    if link is None:
        raise _BadSlice(f"holds no {key!a}")
    if not isinstance(link, h5py.HardLink):
        raise _BadSlice(f"{key!a} is a link")
    dataset = file[key]
    if not isinstance(dataset, h5py.Dataset):
        raise _BadSlice(f"{key!a} is no array")
    if dataset.external is not None or dataset.is_virtual:
        raise _BadSlice(f"{key!a} lies in another file")
    shape = dataset.shape
    if shape is None or len(shape) not in (2, 3) or min(shape) < 1:
        raise _BadSlice(f"{key!a} has the shape {shape}; two or three dimensions are expected")
    if shape[0] * shape[1] > PIXELS_MAX or (len(shape) == 3 and shape[2] > _CHANNELS_MAX):
        raise _BadSlice(f"{key!a} has the shape {shape}; that is too large")
    if dataset.dtype.kind not in "iufb":
        raise _BadSlice(f"{key!a} holds {dataset.dtype}, no numbers")
    return np.asarray(dataset[()])


def _ids(mask: npt.NDArray[Any]) -> npt.NDArray[np.uint16]:
    if not np.isfinite(mask).all() or (mask != np.floor(mask)).any():
        raise _BadSlice("mask holds values that are no ids")
    if mask.ndim == 2:
        if mask.min() < 0 or mask.max() > 65535:
            raise _BadSlice("mask holds ids outside 0..65535")
        return mask.astype(np.uint16)
    regions = mask != 0
    if (regions.sum(-1) > 1).any():
        raise _BadSlice("regions of the one-hot mask overlap")
    return np.where(regions.any(-1), regions.argmax(-1) + 1, 0).astype(np.uint16)

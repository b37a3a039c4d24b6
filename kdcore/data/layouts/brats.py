"""BraTS volumes (NIfTI): slices become images."""

import gzip
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from kdcore.data.layouts.reading import NoPool, Places, Writer, at, needed, windowed
from kdcore.data.listing import Pair
from kdcore.spec.layouts import BratsLayout

VOXELS_MAX = 512 * 512 * 512
FILE_BYTES_MAX = 2 * 2**30
_OFFSET_MAX = 2**20
_AFFINE_TOLERANCE = 1e-3
_LABELS = (0, 1, 2, 3)
_ENHANCING_BEFORE_2023 = 4
_ENDINGS = (".nii.gz", ".nii")

Volume = npt.NDArray[np.float32]


class Brats(NoPool):
    def __init__(self, layout: BratsLayout, places: Places) -> None:
        self._nibabel = needed("nibabel", layout.kind)
        self._layout, self._source, self._made = layout, places.given, places.made

    def pairs(self, folder: str) -> list[Pair]:
        base = self._source.root / at(self._layout.folder, folder)
        if not self._source.folder(base):
            return []
        writer = Writer(self._made, folder)
        pairs: list[Pair] = []
        for case in sorted(base.iterdir()):
            if case.is_dir() and not case.name.startswith("."):
                try:
                    pairs += self._slices(case, writer)
                except _BadVolume as bad:
                    self._source.problem(bad.path, bad.reason)
        return pairs

    def _slices(self, case: Path, writer: Writer) -> list[Pair]:
        layout = self._layout
        names = (*layout.modalities, layout.segmentation)
        paths = [self._of(case, name) for name in names]
        *volumes, labels = (self._read(path, like=paths[0]) for path in paths)
        segmentation = _labels(labels, paths[-1])
        if layout.target == "whole":
            segmentation = (segmentation > 0).astype(np.uint8)
        channels = [windowed(volume, layout.window) for volume in volumes]
        kept = [i for i in range(segmentation.shape[layout.axis]) if self._keeps(
            _slice(segmentation, layout.axis, i), _slice(volumes[0], layout.axis, i)
        )]  # fmt: skip
        if not kept:
            self._source.problem(case, f"no slice holds any {layout.keep}")
        return [
            writer.pair(
                f"{case.name}_{index:04d}",
                _picture([_slice(channel, layout.axis, index) for channel in channels]),
                _slice(segmentation, layout.axis, index),
                group=case.name,
                origin=f"{self._source.relative(case)} slice {index}",
            )
            for index in kept[:: layout.every]
        ]

    def _keeps(self, mask_HW: npt.NDArray[np.uint8], image_HW: Volume) -> bool:
        if self._layout.keep == "tumour":
            return bool(mask_HW.any())
        return self._layout.keep == "all" or bool((image_HW > 0).any())

    def _of(self, case: Path, name: str) -> Path:
        found = [
            path
            for path in sorted(case.iterdir())
            for ending in _ENDINGS
            if path.name.endswith((f"-{name}{ending}", f"_{name}{ending}"))
        ]
        if len(found) != 1:
            count = "several volumes" if found else "no volume"
            raise _BadVolume(case, f"{count} named *{name}.nii.gz")
        return found[0]

    def _read(self, path: Path, *, like: Path) -> Volume:
        if not self._source.file(path, bytes_max=FILE_BYTES_MAX):
            raise _BadVolume(path, "cannot be used")
        image, first = (_open(self._nibabel, each) for each in (path, like))
        if image.shape != first.shape or not np.allclose(
            image.affine, first.affine, atol=_AFFINE_TOLERANCE
        ):
            raise _BadVolume(path, f"lies in another grid than {like.name}")
        try:
            volume = np.asarray(image.dataobj, dtype=np.float32)
        except (OSError, EOFError, ValueError, zlib.error, gzip.BadGzipFile) as error:
            raise _BadVolume(path, f"cannot be read: {error}") from error
        if not np.isfinite(volume).all():
            raise _BadVolume(path, "holds NaN or infinite voxels")
        return volume


class _BadVolume(Exception):
    def __init__(self, path: Path, reason: str) -> None:
        self.path, self.reason = path, reason


def _open(nibabel: Any, path: Path) -> Any:
    """The header alone, checked before any voxel is read."""
    try:
        image = nibabel.Nifti1Image.from_filename(path)
        shape, kind = image.shape, image.get_data_dtype()
        offset = int(image.dataobj.offset)
    # nibabel raises whatever its header parsers trip over.
    except Exception as error:
        raise _BadVolume(path, f"is no readable NIfTI volume: {error}") from error
    if len(shape) != 3 or min(shape) < 1:
        raise _BadVolume(path, f"has the shape {shape}; three dimensions are expected")
    if int(np.prod(shape, dtype=np.float64)) > VOXELS_MAX:
        raise _BadVolume(path, f"has {shape} voxels; at most {VOXELS_MAX:,} are read")
    if kind.kind not in "iuf" or offset > _OFFSET_MAX:
        raise _BadVolume(path, f"has voxels of type {kind} at byte {offset}")
    if not np.isfinite(image.affine).all():
        raise _BadVolume(path, "has an affine that is not finite")
    return image


def _labels(volume: Volume, path: Path) -> npt.NDArray[np.uint8]:
    """0, 1 necrotic core, 2 oedema, 3 enhancing (4 before BraTS 2023)."""
    found = np.unique(volume)
    if _ENHANCING_BEFORE_2023 in found and 3 in found:
        raise _BadVolume(path, "holds both 3 and 4 for the enhancing tumour")
    unknown = [value for value in found if value not in (*_LABELS, _ENHANCING_BEFORE_2023)]
    if unknown:
        shown = ", ".join(f"{value:g}" for value in unknown[:8])
        raise _BadVolume(path, f"holds labels that BraTS does not have: {shown}")
    return np.where(volume == _ENHANCING_BEFORE_2023, 3, volume).astype(np.uint8)


def _slice(volume: npt.NDArray[Any], axis: int, index: int) -> npt.NDArray[Any]:
    """Upright, as a viewer shows it: the second of the remaining axes goes up."""
    return np.ascontiguousarray(np.rot90(volume.take(index, axis)))


def _picture(channels: list[npt.NDArray[np.uint8]]) -> npt.NDArray[np.uint8]:
    if len(channels) == 1:
        return channels[0]
    return np.stack([*channels, np.zeros_like(channels[0])][:3], axis=-1)

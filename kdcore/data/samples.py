"""The samples of a split, decoded once and kept as uint8; every file is checked when it is read."""

import hashlib
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import torch
from torch import Tensor

from kdcore.data.reading import Unreadable, map_ids, read_image, read_mask
from kdcore.errors import DatasetChanged
from kdcore.spec.dataset import DatasetManifest, FileEntry, Sample, raw_id_map

RAM_BYTES_MAX = 2 * 2**30
"""Decoded samples beyond this are read again each time."""


class Samples:
    """``samples[i]`` is (image (3, H, W) uint8, mask (H, W) uint8 of class ids, 255 = ignore).

    Without a mask (the unlabelled pool) the mask is all zeros: nothing there is to be ignored.
    Raises: DatasetChanged, when a file is missing or not what the manifest says.
    """

    def __init__(self, root: Path, manifest: DatasetManifest, samples: Sequence[Sample]) -> None:
        self.entries = tuple(samples)
        self._root = root
        self._raw_id_map = raw_id_map(manifest.classes, manifest.ignore_index)
        self._cache: dict[int, tuple[Tensor, Tensor]] | None = (
            {} if sum(4 * s.height * s.width for s in samples) <= RAM_BYTES_MAX else None
        )

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        if self._cache is None:
            return self._read(self.entries[index])
        if index not in self._cache:
            self._cache[index] = self._read(self.entries[index])
        return self._cache[index]

    def check_presence(self) -> None:
        """Every file is there in its full size. Raises: DatasetChanged."""
        for sample in self.entries:
            for entry in (sample.image, sample.mask):
                if entry is None:
                    continue
                path = self._root / entry.path
                if not path.is_file() or path.stat().st_size != entry.size:
                    raise _changed(entry, "is missing or has another size")

    def _read(self, sample: Sample) -> tuple[Tensor, Tensor]:
        try:
            image_HWC = read_image(self._verified(sample.image))
            image_CHW = torch.from_numpy(image_HWC.copy()).permute(2, 0, 1).contiguous()
            if sample.mask is None:
                return image_CHW, torch.zeros(image_CHW.shape[1:], dtype=torch.uint8)
            mask_HW = map_ids(read_mask(self._verified(sample.mask)), self._raw_id_map)
        except Unreadable as error:
            raise DatasetChanged(f"{sample.id}: {error}") from error
        return image_CHW, torch.from_numpy(mask_HW)

    def _verified(self, entry: FileEntry) -> BytesIO:
        try:
            content = (self._root / entry.path).read_bytes()
        except OSError as error:
            raise _changed(entry, f"cannot be read: {error.strerror}") from error
        if hashlib.sha256(content).hexdigest() != entry.sha256:
            raise _changed(entry, "has another content")
        return BytesIO(content)


def _changed(entry: FileEntry, how: str) -> DatasetChanged:
    return DatasetChanged(
        f"{entry.path} {how} than when the dataset was registered"
        if how.startswith("has another")
        else f"{entry.path} {how}",
        field="dataset",
        remedy="restore the file, or register the dataset anew as another revision",
    )

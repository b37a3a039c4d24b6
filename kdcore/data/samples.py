"""The samples of a split, decoded once and kept as uint8; every file is checked when it is read."""

import hashlib
import os
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import torch
from torch import Tensor

from kdcore.data.decoded import open_decoded
from kdcore.data.reading import Unreadable, map_ids, read_image, read_mask, resized
from kdcore.errors import DatasetChanged
from kdcore.spec.dataset import DatasetManifest, FileEntry, Sample

RAM_BYTES_MAX = 2 * 2**30
"""Decoded samples beyond this go to a file in the cache folder; without one they are read again."""
CACHE_VARIABLE = "STILLHOUSE_CACHE"
"""Not KD_: variables of that name hold what trainers must not see, and do not reach them."""


def cache_folder() -> Path | None:
    """The folder for decoded samples, shared by the runs on a machine; opt-in, for its size."""
    named = os.environ.get(CACHE_VARIABLE)
    return Path(named) if named else None


class Samples:
    """``samples[i]`` is (image (3, H, W) uint8, mask (H, W) uint8 of class ids, 255 = ignore).

    Without a mask (the unlabelled pool) the mask is all zeros: nothing there is to be ignored.
    Raises: DatasetChanged, when a file is missing or not what the manifest says.
    """

    def __init__(
        self,
        root: Path,
        manifest: DatasetManifest,
        samples: Sequence[Sample],
        *,
        cache: Path | None = None,
    ) -> None:
        self.entries = tuple(samples)
        self._root = root
        self._raw_id_map = manifest.raw_id_map()
        self._colors = manifest.masks == "colors"
        self._size = manifest.resize
        small = sum(4 * s.height * s.width for s in samples) <= RAM_BYTES_MAX
        self._cache: dict[int, tuple[Tensor, Tensor]] | None = {} if small else None
        self._file = None if small or cache is None else open_decoded(cache, manifest, samples)

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        if self._cache is None:
            return self._through_file(index)
        if index not in self._cache:
            self._cache[index] = self._read(self.entries[index])
        return self._cache[index]

    @property
    def bytes_to_keep(self) -> int:
        """What the decoded samples will take in memory beyond those already there."""
        if self._cache is None:
            return 0
        missing = (entry for index, entry in enumerate(self.entries) if index not in self._cache)
        return sum(4 * entry.height * entry.width for entry in missing)

    def check_presence(self) -> None:
        """Every file is there in its full size. Raises: DatasetChanged."""
        for sample in self.entries:
            for entry in (sample.image, sample.mask):
                if entry is None:
                    continue
                path = self._root / entry.path
                if not path.is_file() or path.stat().st_size != entry.size:
                    raise _changed(entry, "is missing or has another size")

    def _through_file(self, index: int) -> tuple[Tensor, Tensor]:
        if self._file is None:
            return self._read(self.entries[index])
        kept = self._file.get(index)
        if kept is not None:
            return torch.from_numpy(kept[0]), torch.from_numpy(kept[1])
        image_CHW, mask_HW = self._read(self.entries[index])
        self._file.put(index, image_CHW.numpy(), mask_HW.numpy())
        return image_CHW, mask_HW

    def _read(self, sample: Sample) -> tuple[Tensor, Tensor]:
        try:
            image_HWC = resized(read_image(self._verified(sample.image)), self._size)
            image_CHW = torch.from_numpy(image_HWC.copy()).permute(2, 0, 1).contiguous()
            if sample.mask is None:
                return image_CHW, torch.zeros(image_CHW.shape[1:], dtype=torch.uint8)
            raw_HW = read_mask(self._verified(sample.mask), colors=self._colors)
            mask_HW = map_ids(raw_HW, self._raw_id_map, colors=self._colors)
            mask_HW = resized(mask_HW, self._size)
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

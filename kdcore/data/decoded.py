"""Decoded samples in one memory-mapped file, shared by every run on the same dataset.

::

    n × uint64     of each sample 2³² + crc32 of its bytes, or 0 while it is missing
    samples        image (3, H, W) uint8, then mask (H, W) uint8, one behind the other

A sample is written before its checksum and believed only if both agree, so that runs fill one file
at the same time, and a crash or a full disk in the middle leaves nothing that would be taken.
"""

import os
import shutil
import zlib
from collections.abc import Sequence
from contextlib import suppress
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from kdcore.spec.base import digest
from kdcore.spec.dataset import DatasetManifest, Sample

RESERVE_BYTES = 2**30
"""Space that stays free: checkpoints go before a cache."""
_FORM = 1
_THERE = 1 << 32
_FLAG = 8

Pixels = npt.NDArray[np.uint8]


def open_decoded(
    folder: Path, manifest: DatasetManifest, samples: Sequence[Sample]
) -> "DecodedFile | None":
    """The file of these samples, made if need be; None where there is no room for it."""
    digests = [[s.image.sha256, s.mask and s.mask.sha256] for s in samples]
    path = folder / f"{digest([_FORM, manifest.fingerprint(), digests])}.decoded"
    file = DecodedFile(path, [(sample.height, sample.width) for sample in samples])
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return file if file.make() else None
    except OSError:
        return None


class DecodedFile:
    def __init__(self, path: Path, sizes: Sequence[tuple[int, int]]) -> None:
        """``sizes`` are (height, width) in pixels."""
        self.path = path
        self._sizes = tuple(sizes)
        lengths = (4 * height * width for height, width in sizes)
        self._offsets = tuple(accumulate(lengths, initial=_FLAG * len(self._sizes)))
        self._open_in_this_process()

    def make(self) -> bool:
        """Whether the file is there in its full size (with holes, until samples fill them)."""
        if self.path.exists():
            if self.path.stat().st_size == self._offsets[-1]:
                os.utime(self.path)  # for who cleans the folder by age
                return True
            self.path.unlink()
        if shutil.disk_usage(self.path.parent).free - self._offsets[-1] < RESERVE_BYTES:
            return False
        partial = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        try:
            with partial.open("wb") as file:
                file.truncate(self._offsets[-1])
            # Of several runs that come at once the first one wins, and all take its file.
            with suppress(FileExistsError):
                self.path.hardlink_to(partial)
        finally:
            partial.unlink(missing_ok=True)
        return True

    def get(self, index: int) -> tuple[Pixels, Pixels] | None:
        """Copies of image (3, H, W) and mask (H, W); None where they are missing or damaged."""
        try:
            mapped = self._mapped()
        except (OSError, ValueError):  # cleaned away before it was opened
            return None
        flag = int.from_bytes(mapped[_FLAG * index : _FLAG * (index + 1)].tobytes(), "little")
        if flag == 0:
            return None
        content = np.array(mapped[self._offsets[index] : self._offsets[index + 1]])
        if index not in self._checked:
            if flag != _THERE + zlib.crc32(content.data):
                return None
            self._checked.add(index)
        height, width = self._sizes[index]
        image, mask = content[: 3 * height * width], content[3 * height * width :]
        return image.reshape(3, height, width), mask.reshape(height, width)

    def put(self, index: int, image_CHW: Pixels, mask_HW: Pixels) -> None:
        """Keep a sample. Where the disk is full it is not kept, and nothing else happens."""
        height, width = self._sizes[index]
        assert (image_CHW.shape, mask_HW.shape) == ((3, height, width), (height, width))
        content = image_CHW.tobytes() + mask_HW.tobytes()
        flag = (_THERE + zlib.crc32(content)).to_bytes(_FLAG, "little")
        try:
            descriptor = os.open(self.path, os.O_WRONLY)
        except OSError:
            return
        try:
            # By writing, not through the map: a full disk is an error there and not a SIGBUS.
            if os.pwrite(descriptor, content, self._offsets[index]) == len(content):
                os.pwrite(descriptor, flag, _FLAG * index)
        except OSError:
            return
        finally:
            os.close(descriptor)

    def __getstate__(self) -> dict[str, Any]:
        """Without the map: a pickled one would carry the whole file to a loader process."""
        return {**self.__dict__, "_map": None, "_checked": set()}

    def _open_in_this_process(self) -> None:
        self._map: np.memmap[Any, np.dtype[np.uint8]] | None = None
        self._checked: set[int] = set()

    def _mapped(self) -> "np.memmap[Any, np.dtype[np.uint8]]":
        if self._map is None:
            self._map = np.memmap(self.path, dtype=np.uint8, mode="r")
        return self._map

"""Logits on disk: a file an entry, whole or absent, checked at every reading.

::

    FOLDER/SHELF/ab/abcdef….logits     32 bytes of header, then (C, h, w) values
    header                             form, crc32, dtype, C, h, w

An entry is written beside its place and renamed, so that runs fill one folder at the same time. The
checksum covers shelf, name, shape and values: a torn, rotten or misplaced file is no entry.
"""

import os
import shutil
import struct
import zlib
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from kdcore.data.decoded import RESERVE_BYTES

_HEADER = struct.Struct("<8sII3I4x")
_FORM = b"KDLOGIT1"
_DTYPES = (torch.float32, torch.float16, torch.bfloat16)
_COUNT_EVERY = 256
"""Writings between two countings of what other runs have written meanwhile."""


class KeptLogits:
    """Entries by shelf and name, both digests, up to ``quota`` bytes of all runs together."""

    def __init__(self, folder: Path, *, quota: int) -> None:
        self.folder, self._quota = folder, quota
        self._bytes, self._written = 0, 0

    def get(self, shelf: str, name: str) -> Tensor | None:
        """A copy of the logits (C, h, w), or None where they are missing or damaged."""
        try:
            content = np.fromfile(self._path(shelf, name), dtype=np.uint8)
        except OSError:
            return None
        if len(content) < _HEADER.size:
            return None
        form, checksum, kind, *shape = _HEADER.unpack(content[: _HEADER.size].tobytes())
        if form != _FORM or kind >= len(_DTYPES):
            return None
        body = content[_HEADER.size :]
        whole = len(body) == shape[0] * shape[1] * shape[2] * _DTYPES[kind].itemsize
        if not whole or checksum != _checksum(shelf, name, (kind, *shape), body.data):
            return None
        return torch.from_numpy(body).view(_DTYPES[kind]).view(*shape)

    def put(self, shelf: str, name: str, logits_CHW: Tensor) -> bool:
        """Keep an entry; False where the quota or the disk has no room for it."""
        body = logits_CHW.detach().cpu().contiguous().view(torch.uint8).numpy()
        if not self._has_room(_HEADER.size + body.nbytes):
            return False
        described = (_DTYPES.index(logits_CHW.dtype), *logits_CHW.shape)
        checksum = _checksum(shelf, name, described, body.data.cast("B"))
        path = self._path(shelf, name)
        partial = path.with_name(f".{name}.{os.getpid()}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with partial.open("wb") as file:
                file.write(_HEADER.pack(_FORM, checksum, *described))
                file.write(body.data)
            partial.replace(path)
        except OSError:
            with suppress(OSError):
                partial.unlink(missing_ok=True)
            return False
        self._bytes += _HEADER.size + body.nbytes
        return True

    def _has_room(self, wanted: int) -> bool:
        if self._written % _COUNT_EVERY == 0:
            self._bytes = _bytes_below(self.folder)
        self._written += 1
        if self._bytes + wanted > self._quota:
            return False
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            return shutil.disk_usage(self.folder).free - wanted >= RESERVE_BYTES
        except OSError:
            return False

    def _path(self, shelf: str, name: str) -> Path:
        return self.folder / shelf / name[:2] / f"{name}.logits"


def _checksum(shelf: str, name: str, described: tuple[int, ...], body: memoryview) -> int:
    start = zlib.crc32(f"{shelf}/{name}/{described}".encode())
    return zlib.crc32(body, start)


def _bytes_below(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        with suppress(FileNotFoundError):  # another run's, renamed meanwhile
            total += path.stat().st_size if path.is_file() else 0
    return total

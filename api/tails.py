"""The end of a text file, without reading the rest of it."""

import io
from typing import BinaryIO, Final

BLOCK_BYTES: Final = 64 * 1024
TAIL_BYTES: Final = 4 * 1024 * 1024


def tail_of(source: BinaryIO, lines: int) -> bytes:
    """The last ``lines`` lines of ``source``, at most `TAIL_BYTES` of them."""
    position = source.seek(0, io.SEEK_END)
    blocks: list[bytes] = []
    newlines = taken = 0
    while position > 0 and newlines <= lines and taken < TAIL_BYTES:
        size = min(BLOCK_BYTES, position)
        position = source.seek(position - size)
        blocks.append(source.read(size))
        newlines += blocks[-1].count(b"\n")
        taken += size
    return b"".join(b"".join(reversed(blocks)).splitlines(keepends=True)[-lines:])

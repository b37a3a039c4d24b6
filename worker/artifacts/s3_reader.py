"""An object of S3 as a file."""

import io
from contextlib import suppress
from typing import Any, Final

from botocore.exceptions import (
    ClientError,
    IncompleteReadError,
    ReadTimeoutError,
    ResponseStreamingError,
)

from worker.artifacts.copying import BLOCK_BYTES
from worker.artifacts.errors import ArtifactMissing, StorageUnavailable
from worker.artifacts.s3_client import MISSING, UNREACHABLE, code_of, s3_errors

BUFFER_BYTES: Final = 1 << 20
TRIES: Final = 3
BEYOND_END: Final = frozenset({"416", "InvalidRange"})
BROKEN_OFF: Final = (IncompleteReadError, ReadTimeoutError, ResponseStreamingError, OSError)


def open_object(client: Any, *, bucket: str, key: str, sha256: str, size: int) -> io.BufferedReader:
    """Of ``size`` bytes; where the object has fewer, its end comes sooner. Reading raises
    `ArtifactMissing`, `StorageUnavailable`.
    """
    return io.BufferedReader(_Ranges(client, bucket, key, sha256, size), BUFFER_BYTES)


class _Ranges(io.RawIOBase):
    """Each read is one request for just these bytes, so a broken one is simply made again."""

    def __init__(self, client: Any, bucket: str, key: str, sha256: str, size: int) -> None:
        self._client, self._bucket, self._key, self._sha256 = client, bucket, key, sha256
        self._size = size
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        if start + offset < 0:
            raise ValueError(f"negative seek position {start + offset}")
        self._position = start + offset
        return self._position

    def readinto(self, buffer: Any) -> int:
        stop = min(self._position + len(buffer), self._size)
        if self._position >= stop:
            return 0
        block = self._get(self._position, stop)
        buffer[: len(block)] = block
        self._position += len(block)
        return len(block)

    def readall(self) -> bytes:
        """Not in the small blocks of `RawIOBase`: each is a request."""
        blocks = []
        while block := self.read(BLOCK_BYTES):
            blocks.append(block)
        return b"".join(blocks)

    def _get(self, start: int, stop: int) -> bytes:
        for _ in range(TRIES):
            with s3_errors(self._bucket):
                try:
                    answer = self._client.get_object(
                        Bucket=self._bucket, Key=self._key, Range=f"bytes={start}-{stop - 1}"
                    )
                except ClientError as error:
                    if code_of(error) in MISSING:
                        raise ArtifactMissing(self._sha256) from error
                    if code_of(error) in BEYOND_END:
                        return b""
                    raise
            with suppress(*BROKEN_OFF):
                block: bytes = answer["Body"].read()
                return block
        raise StorageUnavailable("the storage service breaks off its answers", remedy=UNREACHABLE)

"""Serving files of the artefact store: validators, single ranges, safe media types."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Annotated, Any, BinaryIO, Final
from urllib.parse import quote

from fastapi import Query
from pydantic import BeforeValidator
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from api.problems import Refusal, Slug, failures
from worker.artifacts import ArtifactStore
from worker.ledger.files import FileRef

BLOCK_BYTES: Final = 256 * 1024
MEDIA_TYPES: Final = {
    ".json": "application/json",
    ".jsonl": "application/x-ndjson",
    ".md": "text/markdown; charset=utf-8",
    ".txt": "text/plain; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".webp": "image/webp",
}
"""By suffix; everything else is bytes to be saved."""
_SHOWN: Final = frozenset({".png", ".jpg", ".webp", ".txt", ".json"})
"""What a browser may show in place. HTML is not among them: a run wrote it, not we."""
FILE_SLUGS: Final = (
    Slug.NOT_FOUND,
    Slug.CONTENT_GONE,
    Slug.RANGE_NOT_SATISFIABLE,
    Slug.INVALID_PARAMETER,
)
Presigned = Annotated[
    bool,
    BeforeValidator(lambda value: value == "" or value),
    Query(
        description="Redirect to the storage service, where the address is good for 15 minutes; "
        "without such a service the file is sent from here"
    ),
]
_RANGE: Final = re.compile(r"^bytes=(\d{0,18})-(\d{0,18})$")


def file_responses(
    *further: Slug, media_type: str = "application/octet-stream", presigned: bool = False
) -> dict[int | str, dict[str, Any]]:
    """What the description says of a route that answers with `serve`."""
    elsewhere: dict[int | str, dict[str, Any]] = {
        307: {"description": "The file is there, for some minutes"}
    }
    content: dict[str, Any] = {media_type: {}}
    return {
        200: {"content": content, "description": "The file"},
        206: {"content": content, "description": "The range asked for"},
        304: {"description": "The client has it already"},
        **(elsewhere if presigned else {}),
        **failures(*FILE_SLUGS, *further),
    }


def serve(
    store: ArtifactStore,
    ref: FileRef,
    path: str,
    request: Request,
    *,
    inline: bool = False,
    presigned: bool = False,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """The file ``ref`` under the name of ``path``; answers If-None-Match, Range and If-Range.

    ``inline`` shows even HTML in place: the caller's ``headers`` must then sandbox it.
    ``presigned`` sends the client to the storage itself, where that is possible.

    Raises:
        Refusal: `range-not-satisfiable`.
        ArtifactMissing: the store lost the content.
    """
    etag = f'"{ref.sha256}"'
    suffix = PurePosixPath(path).suffix.lower()
    every = {
        "ETag": etag,
        "Accept-Ranges": "bytes",
        # The path may get other content while a job runs, so it is asked for anew each time.
        "Cache-Control": "private, no-cache",
        "Content-Disposition": _disposition(path, inline=inline or suffix in _SHOWN),
        "Content-Security-Policy": "default-src 'none'; sandbox",
        **(headers or {}),
    }
    if _matches(request.headers.get("if-none-match"), etag):
        return Response(status_code=304, headers=every)
    elsewhere = store.link(ref, path) if presigned and request.method == "GET" else None
    if elsewhere is not None:
        return RedirectResponse(elsewhere, headers={"Cache-Control": "no-store"})
    part = _range(request, etag, ref.size)
    length = part.stop - part.start
    every["Content-Length"] = str(length)
    if part.partial:
        every["Content-Range"] = f"bytes {part.start}-{part.stop - 1}/{ref.size}"
    status = 206 if part.partial else 200
    media_type = MEDIA_TYPES.get(suffix, "application/octet-stream")
    source = store.open(ref)
    if request.method == "HEAD":
        source.close()
        return Response(status_code=status, headers=every, media_type=media_type)
    return _FileStream(source, part.start, length, status, headers=every, media_type=media_type)


@dataclass(frozen=True)
class _Part:
    start: int
    stop: int
    partial: bool


class _FileStream(StreamingResponse):
    """Closes its file also when the client goes away in the middle."""

    def __init__(
        self,
        source: BinaryIO,
        start: int,
        length: int,
        status: int,
        *,
        headers: Mapping[str, str],
        media_type: str,
    ) -> None:
        self._source = source
        super().__init__(
            _blocks(source, start, length), status, headers=headers, media_type=media_type
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._source.close()


def _blocks(source: BinaryIO, start: int, length: int) -> Iterator[bytes]:
    source.seek(start)
    while length > 0:
        block = source.read(min(BLOCK_BYTES, length))
        if not block:
            return
        length -= len(block)
        yield block


def _range(request: Request, etag: str, size: int) -> _Part:
    """One range is served; several, or one in another unit, may be ignored (RFC 9110, 14.2)."""
    whole = _Part(0, size, partial=False)
    header = request.headers.get("range")
    if_range = request.headers.get("if-range")
    match = _RANGE.match(header.replace(" ", "")) if header else None
    if match is None or (if_range is not None and if_range != etag) or match[0] == "bytes=-":
        return whole
    first, last = match[1], match[2]
    if not first:
        start, stop = max(0, size - int(last)), size
    else:
        start, stop = int(first), min(size, int(last) + 1) if last else size
        if last and int(last) < start:
            return whole
    if start >= size or start >= stop:
        raise Refusal(
            Slug.RANGE_NOT_SATISFIABLE,
            f"The file has {size} bytes.",
            headers={"Content-Range": f"bytes */{size}"},
        )
    return _Part(start, stop, partial=True)


def _matches(header: str | None, etag: str) -> bool:
    if header is None:
        return False
    return any(item.strip().removeprefix("W/") in (etag, "*") for item in header.split(","))


def _disposition(path: str, *, inline: bool) -> str:
    name = PurePosixPath(path).name
    return f"{'inline' if inline else 'attachment'}; filename*=utf-8''{quote(name, safe='')}"

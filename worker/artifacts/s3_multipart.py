"""Large files to S3, part by part: what an interrupted upload brought is not sent again.

No note is kept of an upload. The service knows which are under way for a key, and the name of a
part there (its ETag) is the MD5 of its bytes. Where a service names parts in another way, every
part is sent again, which costs time and nothing else. Two writers of one content share an upload:
equal numbers are equal bytes.
"""

from base64 import b64encode
from collections.abc import Iterator
from hashlib import md5, sha256
from typing import Any, BinaryIO, Final

from botocore.exceptions import ClientError

from worker.artifacts.s3_client import code_of
from worker.ledger.files import FileRef

PART_BYTES: Final = 16 << 20
PARTS_MAX: Final = 10_000
ENDED: Final = "NoSuchUpload"
_MIB: Final = 1 << 20


class UploadEnded(Exception):
    """Somebody else completed or aborted it."""


class ContentChanged(Exception):
    """The file is no longer what it was when it was digested."""


def upload(client: Any, where: dict[str, str], source: BinaryIO, ref: FileRef) -> None:
    """Bring ``source``, which holds ``ref``, to ``where`` (bucket and key).

    Raises UploadEnded, ContentChanged, and what boto3 raises: then the parts wait to be resumed.
    """
    try:
        upload_id, there = _resume(client, where)
        target = {**where, "UploadId": upload_id}
        parts, state = [], sha256()
        for number, block in enumerate(_blocks(source, ref.size), start=1):
            state.update(block)
            etag = md5(block, usedforsecurity=False).hexdigest()
            if there.get(number) != etag:
                etag = client.upload_part(
                    **target, PartNumber=number, Body=block, ContentMD5=content_md5(block)
                )["ETag"]
            parts.append({"PartNumber": number, "ETag": etag})
        if state.hexdigest() != ref.sha256:
            client.abort_multipart_upload(**target)
            raise ContentChanged
        client.complete_multipart_upload(**target, MultipartUpload={"Parts": parts})
    except ClientError as error:
        if code_of(error) == ENDED:
            raise UploadEnded from error
        raise


def content_md5(block: bytes) -> str:
    """With it the service refuses bytes that were damaged on their way."""
    return b64encode(md5(block, usedforsecurity=False).digest()).decode()


def _resume(client: Any, where: dict[str, str]) -> tuple[str, dict[int, str]]:
    """The newest upload under way, or a new one, and the MD5 of each part that it has."""
    pages = client.get_paginator("list_multipart_uploads").paginate(
        Bucket=where["Bucket"], Prefix=where["Key"]
    )
    under_way = [found for page in pages for found in page.get("Uploads", ())]
    if not under_way:
        return client.create_multipart_upload(**where)["UploadId"], {}
    newest = max(under_way, key=lambda found: found["Initiated"])["UploadId"]
    parts = client.get_paginator("list_parts").paginate(**where, UploadId=newest)
    return newest, {
        part["PartNumber"]: part["ETag"].strip('"')
        for page in parts
        for part in page.get("Parts", ())
    }


def _blocks(source: BinaryIO, size: int) -> Iterator[bytes]:
    """Of a length that follows from ``size`` alone, so that a resumed upload cuts as before."""
    source.seek(0)
    length = max(PART_BYTES, -(-size // (PARTS_MAX * _MIB)) * _MIB)
    left = size
    while left > 0 and (block := source.read(min(length, left))):
        left -= len(block)
        yield block

"""An artefact store in a bucket of an S3 service.

Nothing here relies on conditional requests, which not every service knows: a key is the digest of
its content, so whoever writes it, and how often, it holds the same.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from hashlib import file_digest, sha256
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, Final
from urllib.parse import quote

from boto3.s3.transfer import TransferConfig
from botocore.exceptions import ClientError

from worker.artifacts.copying import copy_verified
from worker.artifacts.errors import ArtifactMissing, StorageUnavailable
from worker.artifacts.s3_client import MISSING, code_of, connect, s3_errors
from worker.artifacts.s3_multipart import (
    PART_BYTES,
    ContentChanged,
    UploadEnded,
    content_md5,
    upload,
)
from worker.artifacts.s3_reader import open_object
from worker.artifacts.store import FRESH_SECONDS, ArtifactStore, Content
from worker.ledger.files import FileRef

LINK_SECONDS: Final = 900
PUT_TRIES: Final = 3
STORED: Final = "sha256"
DROPPED: Final = "dropped"
_COPYING: Final = TransferConfig(
    multipart_threshold=4 << 30, multipart_chunksize=1 << 30, use_threads=False
)
"""One request may copy five gigabytes."""


class S3Store(ArtifactStore):
    """``s3://bucket/prefix/sha256/ab/abcdef…``; thread-safe. Nothing is sent when it is made."""

    local = False

    def __init__(
        self,
        bucket: str,
        prefix: str = "",
        *,
        endpoint: str | None = None,
        public_endpoint: str | None = None,
    ) -> None:
        """``public_endpoint``: where browsers reach the service, if that is another address."""
        self._bucket = bucket
        self._prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        with s3_errors(bucket):
            self._client = connect(endpoint)
            self._quick = connect(endpoint, quick=True)
            self._public = connect(public_endpoint) if public_endpoint else self._client

    def put(self, path: Path) -> FileRef:
        with path.open("rb") as source:
            block = source.read(PART_BYTES + 1)
            if len(block) > PART_BYTES:
                return self._put_large(source, path.name)
        ref = FileRef(sha256=sha256(block).hexdigest(), size=len(block))
        with s3_errors(self._bucket):
            self._client.put_object(
                **self._at(ref.sha256), Body=block, ContentMD5=content_md5(block)
            )
        return ref

    def fetch(self, ref: FileRef, destination: Path) -> None:
        try:
            # Of a small file this is the only request.
            with self._reader(ref, self._at(ref.sha256)["Key"], ref.size) as source:
                copy_verified(source, ref, destination)
        except ArtifactMissing:
            with self.open(ref) as source:
                copy_verified(source, ref, destination)

    def open(self, ref: FileRef) -> BinaryIO:
        return self._reader(ref, *self._find(ref.sha256))

    def link(self, ref: FileRef, name: str) -> str | None:
        key, _ = self._find(ref.sha256)
        file_name = quote(PurePosixPath(name).name, safe="")
        wanted = {
            "Bucket": self._bucket,
            "Key": key,
            "ResponseContentDisposition": f"attachment; filename*=utf-8''{file_name}",
            "ResponseContentType": "application/octet-stream",
        }
        with s3_errors(self._bucket):
            address: str = self._public.generate_presigned_url(
                "get_object", Params=wanted, ExpiresIn=LINK_SECONDS
            )
        return address

    def check(self) -> None:
        self._require_bucket(self._quick)

    def contents(self, shard: str, *, dropped: bool = False) -> Iterator[Content]:
        folder = f"{self._prefix}{DROPPED if dropped else STORED}/{shard}"
        pages = self._client.get_paginator("list_objects_v2")
        with s3_errors(self._bucket):
            for page in pages.paginate(Bucket=self._bucket, Prefix=folder):
                now = _moment(page)
                for found in page.get("Contents", ()):
                    age = (now - found["LastModified"]).total_seconds()
                    yield Content(PurePosixPath(found["Key"]).name, age)

    def drop(self, sha256: str) -> None:
        self._move(sha256, STORED, DROPPED)

    def restore(self, sha256: str) -> None:
        self._move(sha256, DROPPED, STORED)

    def erase(self, sha256: str) -> None:
        with s3_errors(self._bucket):
            self._client.delete_object(**self._at(sha256, DROPPED))

    def clean_up(self, *, older_seconds: float) -> int:
        """Uploads that nobody went on with; also those of files that no longer exist."""
        removed = 0
        pages = self._client.get_paginator("list_multipart_uploads")
        with s3_errors(self._bucket):
            for page in pages.paginate(Bucket=self._bucket, Prefix=f"{self._prefix}{STORED}/"):
                before = _moment(page) - timedelta(seconds=older_seconds)
                for found in page.get("Uploads", ()):
                    if found["Initiated"] <= before:
                        self._abort(found["Key"], found["UploadId"])
                        removed += 1
        return removed

    def _reader(self, ref: FileRef, key: str, size: int) -> BinaryIO:
        return open_object(self._client, bucket=self._bucket, key=key, sha256=ref.sha256, size=size)

    def _put_large(self, source: BinaryIO, name: str) -> FileRef:
        for _ in range(PUT_TRIES):
            source.seek(0)
            digest = file_digest(source, "sha256").hexdigest()  # type: ignore[arg-type]
            ref = FileRef(sha256=digest, size=source.tell())
            with s3_errors(self._bucket):
                if self._is_fresh(ref):
                    return ref
                try:
                    upload(self._client, self._at(ref.sha256), source, ref)
                    return ref
                except (UploadEnded, ContentChanged):
                    continue
        raise StorageUnavailable(f"{name} changes while it is being stored")

    def _is_fresh(self, ref: FileRef) -> bool:
        """Whether it was stored a moment ago: by an upload, for example, whose answer was lost."""
        found = self._head(ref.sha256)
        if found is None or found["ContentLength"] != ref.size:
            return False
        age: timedelta = _moment(found) - found["LastModified"]
        return age.total_seconds() < FRESH_SECONDS

    def _find(self, sha256: str) -> tuple[str, int]:
        """Key and size in bytes. Raises ArtifactMissing, StorageUnavailable."""
        with s3_errors(self._bucket):
            # Twice: it may be restored just between the two looks.
            for area in (STORED, DROPPED, STORED):
                found = self._head(sha256, area)
                if found is not None:
                    return self._at(sha256, area)["Key"], found["ContentLength"]
        self._require_bucket(self._client)
        raise ArtifactMissing(sha256)

    def _head(self, sha256: str, area: str = STORED) -> Any:
        """None if there is none; an answer without a body does not say if the bucket is missing."""
        try:
            return self._client.head_object(**self._at(sha256, area))
        except ClientError as error:
            if code_of(error) in MISSING:
                return None
            raise

    def _require_bucket(self, client: Any) -> None:
        with s3_errors(self._bucket):
            try:
                client.head_bucket(Bucket=self._bucket)
            except ClientError as error:
                if code_of(error) in MISSING:
                    error.response["Error"]["Code"] = "NoSuchBucket"
                raise

    def _move(self, sha256: str, source: str, target: str) -> None:
        """Copied before it is removed: it can be read at every moment."""
        there, here = self._at(sha256, source), self._at(sha256, target)
        with s3_errors(self._bucket):
            try:
                self._client.copy(there, here["Bucket"], here["Key"], Config=_COPYING)
            except ClientError as error:
                if code_of(error) in MISSING:
                    return
                raise
            self._client.delete_object(**there)

    def _abort(self, key: str, upload_id: str) -> None:
        try:
            self._client.abort_multipart_upload(Bucket=self._bucket, Key=key, UploadId=upload_id)
        except ClientError as error:
            if code_of(error) != "NoSuchUpload":
                raise

    def _at(self, sha256: str, area: str = STORED) -> dict[str, str]:
        return {"Bucket": self._bucket, "Key": f"{self._prefix}{area}/{sha256[:2]}/{sha256}"}


def _moment(answer: Any) -> datetime:
    """When the service answered, on its own clock."""
    said = answer["ResponseMetadata"]["HTTPHeaders"].get("date")
    return parsedate_to_datetime(said) if said else datetime.now(UTC)

"""How an S3 service is reached, and what its failures mean."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import boto3
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    NoCredentialsError,
    PartialCredentialsError,
)

from worker.artifacts.errors import StorageFull, StorageUnavailable

CONNECTIONS: Final = 16
CONNECT_SECONDS: Final = 3
READ_SECONDS: Final = 20
TRIES: Final = 3
"""Of each request, with pauses that grow: an outage is noticed within about a minute."""
QUICK_SECONDS: Final = 1

MISSING: Final = frozenset({"404", "NoSuchKey", "NotFound"})
FULL: Final = frozenset(
    {"InsufficientStorage", "QuotaExceeded", "StorageFull", "XMinioStorageFull", "507"}
)
_KEYS: Final = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY to keys that the service knows"
_RIGHTS: Final = (
    "allow s3:ListBucket, s3:ListBucketMultipartUploads, s3:GetObject, s3:PutObject, "
    "s3:DeleteObject, s3:AbortMultipartUpload and s3:ListMultipartUploadParts on the bucket"
)
_REGION: Final = "set AWS_DEFAULT_REGION to the region of the bucket"
_BUCKET: Final = "create the bucket, or correct KD_ARTIFACTS_URL"
REMEDIES: Final = {
    "403": _RIGHTS,
    "AccessDenied": _RIGHTS,
    "AuthorizationHeaderMalformed": _REGION,
    "ExpiredToken": "renew the credentials",
    "InvalidAccessKeyId": _KEYS,
    "InvalidBucketName": _BUCKET,
    "InvalidToken": "renew the credentials",
    "NoSuchBucket": _BUCKET,
    "PermanentRedirect": _REGION,
    "RequestTimeTooSkewed": "set the clock of this machine",
    "SignatureDoesNotMatch": _KEYS,
}
"""By the service's error code."""
UNREACHABLE: Final = (
    "see whether the storage service runs; correct KD_S3_ENDPOINT if it is elsewhere"
)


def connect(endpoint: str | None, *, quick: bool = False) -> Any:
    """A thread-safe client; nothing is sent yet. Credentials come from boto3's own chain.

    ``quick``: every request is answered or has failed after about two seconds.
    """
    session = boto3.Session()
    config = Config(
        connect_timeout=QUICK_SECONDS if quick else CONNECT_SECONDS,
        read_timeout=QUICK_SECONDS if quick else READ_SECONDS,
        retries={"mode": "standard", "total_max_attempts": 1 if quick else TRIES},
        max_pool_connections=CONNECTIONS,
        tcp_keepalive=True,
        signature_version="s3v4",
        # Services of other makers are often reached by an address that has no name for each bucket.
        s3={"addressing_style": "path" if endpoint else "auto"},
        # They also refuse the checksums that newer SDKs add. Ours is the name of the content, and
        # each upload carries its Content-MD5.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )
    return session.client(
        "s3",
        endpoint_url=endpoint,
        region_name=session.region_name or "us-east-1",
        config=config,
    )


def code_of(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


@contextmanager
def s3_errors(bucket: str) -> Iterator[None]:
    """What boto3 raises as `StorageUnavailable` or `StorageFull`, without names of keys in it."""
    try:
        yield
    except ClientError as error:
        code = code_of(error)
        told = f"the bucket {bucket} refuses: {code or 'no reason given'}"
        if code in FULL:
            raise StorageFull(told, remedy="make room, or raise the quota") from error
        raise StorageUnavailable(told, remedy=REMEDIES.get(code)) from error
    except (NoCredentialsError, PartialCredentialsError) as error:
        raise StorageUnavailable("no S3 credentials were found", remedy=_KEYS) from error
    except BotoCoreError as error:
        raise StorageUnavailable(
            f"the storage service does not answer: {type(error).__name__}", remedy=UNREACHABLE
        ) from error

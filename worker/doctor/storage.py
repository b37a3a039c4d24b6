"""The artefact store takes a file, gives it back, and lets it be deleted."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit
from uuid import uuid4

from worker.doctor.findings import Finding, error, ok
from worker.doctor.settings import DoctorSettings

WAIT_SECONDS: Final = 5
REFUSALS: Final = {
    "NoSuchBucket": "Create the bucket, or correct KD_ARTIFACTS_URL.",
    "AccessDenied": "Allow the key to get, put, list and delete objects of the bucket.",
    "InvalidAccessKeyId": "Correct AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.",
    "SignatureDoesNotMatch": "Correct AWS_SECRET_ACCESS_KEY.",
    "RequestTimeTooSkewed": "Run a time service on this machine: the store refuses its clock.",
}
UNREACHABLE: Final = "Start the store; check KD_S3_ENDPOINT, name service and firewall."


def check_storage(settings: DoctorSettings) -> Iterable[Finding]:
    if settings.artifacts_url is not None and settings.artifacts_url.startswith("s3://"):
        return [_bucket(settings.artifacts_url, settings.s3_endpoint)]
    folder = settings.artifacts_url or settings.artifacts_dir
    if folder is None:
        return [
            error(
                "neither KD_ARTIFACTS_URL nor KD_ARTIFACTS_DIR is set",
                "Set KD_ARTIFACTS_URL=s3://BUCKET/PREFIX, or KD_ARTIFACTS_DIR to a folder that "
                "API and workers share.",
            )
        ]
    return [_folder(Path(folder))]


def _folder(folder: Path) -> Finding:
    content = uuid4().bytes
    path = folder / f"doctor-{uuid4().hex}"
    try:
        try:
            with path.open("xb") as file:
                file.write(content)
                os.fsync(file.fileno())
            back = path.read_bytes()
        finally:
            path.unlink(missing_ok=True)
    except OSError as failed:
        return error(
            f"{folder} does not take files: {failed.strerror}",
            f"Make the folder, mount it, or give it to the user with id {os.getuid()}.",
        )
    return _compared(back == content, f"the folder {folder}")


def _bucket(address: str, endpoint: str | None) -> Finding:
    # Only here: it takes a while to import, and a folder does without.
    import boto3
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError, ClientError

    parts = urlsplit(address)
    key = f"{parts.path.strip('/')}/doctor-{uuid4().hex}".lstrip("/")
    place: dict[str, Any] = {"Bucket": parts.netloc, "Key": key}
    content = uuid4().bytes
    try:
        client = boto3.Session().client(
            "s3",
            endpoint_url=endpoint,
            config=Config(
                connect_timeout=WAIT_SECONDS,
                read_timeout=WAIT_SECONDS,
                retries={"total_max_attempts": 1},
            ),
        )
        client.put_object(**place, Body=content)
        try:
            back = client.get_object(**place)["Body"].read()
        finally:
            client.delete_object(**place)
    except ClientError as refused:
        code = refused.response.get("Error", {}).get("Code", "")
        remedy = REFUSALS.get(code, "Look the code up in the manual of the store.")
        return error(f"{address}: the store refuses: {code or refused}", remedy)
    except BotoCoreError as failed:
        return error(f"{address}: {failed}", _remedy(failed))
    except ValueError as failed:  # an endpoint that is no address
        return error(f"{address}: {failed}", "Correct KD_S3_ENDPOINT.")
    return _compared(back == content, address)


def _remedy(failed: Exception) -> str:
    if "credentials" in str(failed).lower():
        return "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give the machine a role."
    if "region" in str(failed).lower():
        return "Set AWS_DEFAULT_REGION; any name does for a store that is not Amazon's."
    return UNREACHABLE


def _compared(equal: bool, where: str) -> Finding:
    if equal:
        return ok(f"{where}: written, read back and deleted")
    return error(f"{where}: gave back other bytes", "Do not use it; replace the disk or the store.")

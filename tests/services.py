"""Real services that tests need: skipped with a reason where they are missing, a failure in CI."""

import os
import shutil
from dataclasses import dataclass
from typing import NoReturn

import pytest


@dataclass(frozen=True)
class S3Service:
    """Its keys are in the environment, where boto3 looks for them."""

    endpoint: str
    bucket: str


def s3_service() -> S3Service:
    endpoint = os.environ.get("KD_TEST_S3_ENDPOINT")
    if endpoint is None:
        missing("no S3 service: KD_TEST_S3_ENDPOINT is not set")
    return S3Service(endpoint, os.environ["KD_TEST_S3_BUCKET"])


def redis_server() -> str:
    """The path of ``redis-server``, of which each test starts its own."""
    return shutil.which("redis-server") or missing("no redis-server on PATH")


def missing(reason: str) -> NoReturn:
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)

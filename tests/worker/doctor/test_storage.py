"""A folder and a bucket: well, closed, and away."""

import os
from pathlib import Path

import pytest

from tests.worker.doctor.checking import SECRET, answering, found
from worker.doctor.findings import Level
from worker.doctor.storage import check_storage


def test_a_folder_takes_files_and_keeps_none(tmp_path: Path) -> None:
    messages, _ = found(check_storage, artifacts_dir=tmp_path)
    assert messages == {Level.OK: f"the folder {tmp_path}: written, read back and deleted"}
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    messages, remedies = found(check_storage, artifacts_dir=tmp_path / "none")
    assert "does not take files" in messages[Level.ERROR]
    assert str(os.getuid()) in str(remedies[Level.ERROR])


def test_no_storage_at_all() -> None:
    assert "neither" in found(check_storage)[0][Level.ERROR]


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> str:
    """Credentials that no server will ever see."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "kd")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    return "s3://kd/artifacts"


def test_a_bucket_out_of_reach(bucket: str) -> None:
    messages, remedies = found(
        check_storage, artifacts_url=bucket, s3_endpoint="http://127.0.0.1:1"
    )
    assert "127.0.0.1:1" in messages[Level.ERROR]
    assert str(remedies[Level.ERROR]).startswith("Start the store")


def test_an_endpoint_that_is_none(bucket: str) -> None:
    _, remedies = found(check_storage, artifacts_url=bucket, s3_endpoint="nonsense")
    assert remedies[Level.ERROR] == "Correct KD_S3_ENDPOINT."


def test_a_bucket_that_is_missing(bucket: str) -> None:
    body = b"<Error><Code>NoSuchBucket</Code><Message>none</Message></Error>"
    with answering(404, body, kind="application/xml") as url:
        messages, remedies = found(check_storage, artifacts_url=bucket, s3_endpoint=url)
    assert "NoSuchBucket" in messages[Level.ERROR]
    assert str(remedies[Level.ERROR]).startswith("Create the bucket")


def test_a_bucket_that_is_well() -> None:
    endpoint = os.environ.get("KD_TEST_S3_ENDPOINT")
    if endpoint is None:
        missing = "KD_TEST_S3_ENDPOINT is not set"
        (pytest.fail if os.environ.get("CI") else pytest.skip)(missing)
    name = os.environ["KD_TEST_S3_BUCKET"]
    for prefix in ("", "/some/prefix"):
        messages, _ = found(
            check_storage, artifacts_url=f"s3://{name}{prefix}", s3_endpoint=endpoint
        )
        assert messages.keys() == {Level.OK}, messages
    messages, _ = found(check_storage, artifacts_url="s3://no-such-kd", s3_endpoint=endpoint)
    assert "NoSuchBucket" in messages[Level.ERROR]

"""What is special about S3: large files part by part, outages, lost answers, links."""

import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen
from uuid import uuid4

import pytest

from tests.services import S3Service
from tests.tcp_proxy import TcpProxy
from worker.artifacts import (
    ArtifactCorrupt,
    ArtifactError,
    ArtifactMissing,
    StorageUnavailable,
    s3_client,
    s3_multipart,
)
from worker.artifacts import s3 as s3_module
from worker.artifacts.copying import BLOCK_BYTES
from worker.artifacts.s3 import LINK_SECONDS, S3Store
from worker.ledger import FileRef

MIB = 1 << 20
PART = 5 * MIB
"""The smallest that S3 takes, but for the last."""


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small parts, short waits."""
    monkeypatch.setattr(s3_multipart, "PART_BYTES", PART)
    monkeypatch.setattr(s3_module, "PART_BYTES", PART)
    monkeypatch.setattr(s3_client, "CONNECT_SECONDS", 1)
    monkeypatch.setattr(s3_client, "READ_SECONDS", 5)


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """Four parts."""
    path = tmp_path / "large"
    path.write_bytes(b"".join(bytes([number]) * MIB for number in range(17)) + b"end")
    return path


@pytest.fixture
def proxy(service: S3Service) -> Iterator[TcpProxy]:
    with TcpProxy(service.endpoint) as proxy:
        yield proxy


@pytest.fixture
def behind(service: S3Service, proxy: TcpProxy) -> S3Store:
    """A store that reaches the service through the proxy."""
    return S3Store(service.bucket, f"test-{uuid4().hex}", endpoint=proxy.url)


def test_a_large_file_goes_in_parts(s3: S3Store, large: Path, tmp_path: Path) -> None:
    ref = s3.put(large)
    assert ref == reference(large)
    s3.fetch(ref, tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == large.read_bytes()
    assert under_way(s3) == []


def test_large_files_are_read_in_few_requests(
    s3: S3Store, large: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ref = s3.put(large)
    asked: list[str] = []
    get = s3._client.get_object

    def counted(**arguments: str) -> Any:
        asked.append(arguments["Range"])
        return get(**arguments)

    monkeypatch.setattr(s3._client, "get_object", counted)
    with s3.open(ref) as opened:
        opened.read()
    s3.fetch(ref, tmp_path / "copy")
    assert len(asked) <= 2 * (large.stat().st_size // BLOCK_BYTES + 2)


def test_an_interrupted_upload_goes_on_where_it_was(
    behind: S3Store, proxy: TcpProxy, large: Path, tmp_path: Path
) -> None:
    proxy.down_after = 2 * PART + MIB  # within the third part
    with pytest.raises(StorageUnavailable, match="does not answer") as caught:
        behind.put(large)
    assert "KD_S3_ENDPOINT" in (caught.value.remedy or "")
    proxy.down, before = False, proxy.up_bytes
    ref = behind.put(large)
    sent = proxy.up_bytes - before
    assert sent < large.stat().st_size - 2 * PART + MIB, "parts were sent again"
    behind.fetch(ref, tmp_path / "copy")
    assert under_way(behind) == []


def test_another_process_goes_on_with_an_upload(
    behind: S3Store, service: S3Service, proxy: TcpProxy, large: Path, tmp_path: Path
) -> None:
    proxy.down_after = 3 * PART
    with pytest.raises(StorageUnavailable):
        behind.put(large)
    proxy.down, before = False, proxy.up_bytes
    other = S3Store(service.bucket, behind._prefix, endpoint=proxy.url)
    ref = other.put(large)
    assert proxy.up_bytes - before < large.stat().st_size - PART
    other.fetch(ref, tmp_path / "copy")
    assert under_way(other) == []


def test_a_part_of_another_content_is_not_taken_over(s3: S3Store, large: Path) -> None:
    """An upload of this key whose first part is wrong: only a rotten writer could have made it."""
    where = s3._at(reference(large).sha256)
    upload_id = s3._client.create_multipart_upload(**where)["UploadId"]
    s3._client.upload_part(**where, UploadId=upload_id, PartNumber=1, Body=b"x" * PART)
    ref = s3.put(large)
    with s3.open(ref) as opened:
        assert sha256(opened.read()).hexdigest() == ref.sha256


@pytest.mark.parametrize("size", [1000, 17 * MIB])
def test_a_put_whose_answer_was_lost_is_there_once(
    behind: S3Store, proxy: TcpProxy, tmp_path: Path, size: int
) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(size))
    # Of a small file the only request, of a large one the last.
    proxy.lose_answer_to = b"PUT /" if size < PART else b"CompleteMultipartUpload"
    ref = behind.put(path)
    assert proxy.lost == 1
    assert [each.sha256 for each in behind.contents(ref.sha256[0])] == [ref.sha256]
    behind.fetch(ref, tmp_path / "copy")
    assert under_way(behind) == []


def test_many_writers_of_one_large_content(s3: S3Store, large: Path, tmp_path: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        refs = set(pool.map(s3.put, [large] * 4))
    assert refs == {reference(large)}
    s3.fetch(reference(large), tmp_path / "copy")
    s3.clean_up(older_seconds=-60)
    assert under_way(s3) == []


def test_a_large_file_that_changes_meanwhile_is_stored_as_it_is_in_the_end(
    s3: S3Store, large: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload = s3_module.upload

    def changes_once(client: Any, where: dict[str, str], source: Any, ref: FileRef) -> None:
        monkeypatch.setattr(s3_module, "upload", upload)
        with large.open("r+b") as file:
            file.write(b"changed")
        upload(client, where, source, ref)

    monkeypatch.setattr(s3_module, "upload", changes_once)
    first = reference(large)
    ref = s3.put(large)
    assert ref == reference(large) != first
    s3.fetch(ref, tmp_path / "copy")
    with pytest.raises(ArtifactMissing):
        s3.open(first)
    assert under_way(s3) == []


def test_a_download_that_breaks_off_goes_on(
    behind: S3Store, proxy: TcpProxy, large: Path, tmp_path: Path
) -> None:
    ref = behind.put(large)
    with behind.open(ref) as opened:
        assert opened.read(MIB) == large.read_bytes()[:MIB]
        proxy.cut()
        assert opened.read() == large.read_bytes()[MIB:]


def test_an_outage_in_the_middle_of_a_download_leaves_nothing(
    behind: S3Store, proxy: TcpProxy, large: Path, tmp_path: Path
) -> None:
    ref = behind.put(large)
    with behind.open(ref) as opened:
        opened.read(1)
        proxy.fail()
        with pytest.raises(StorageUnavailable):
            opened.read()
    with pytest.raises(StorageUnavailable):
        behind.fetch(ref, tmp_path / "copy")
    assert not list(tmp_path.glob("*copy*"))


def test_an_outage_is_named_within_a_bounded_time(
    behind: S3Store, proxy: TcpProxy, file: Path
) -> None:
    proxy.fail()
    started = time.monotonic()
    for action in (lambda: behind.put(file), lambda: behind.open(reference(file)), behind.check):
        with pytest.raises(StorageUnavailable) as caught:
            action()
        assert "KD_S3_ENDPOINT" in (caught.value.remedy or "")
    assert time.monotonic() - started < 60
    proxy.down = False
    behind.put(file)
    behind.check()


def test_rotten_and_cut_contents_are_not_handed_out(
    s3: S3Store, file: Path, tmp_path: Path
) -> None:
    ref = s3.put(file)
    content = file.read_bytes()
    for damaged in (b"X" + content[1:], content[:-1], b""):
        s3._client.put_object(**s3._at(ref.sha256), Body=damaged)
        with pytest.raises(ArtifactCorrupt):
            s3.fetch(ref, tmp_path / "copy")
        assert not list(tmp_path.glob("*copy*"))
    s3.put(file)
    s3.fetch(ref, tmp_path / "copy")


@pytest.mark.parametrize(
    ("environment", "bucket", "remedy"),
    [
        ({}, "there-is-no-such-bucket", "create the bucket"),
        ({"AWS_ACCESS_KEY_ID": "nobody"}, None, "AWS_ACCESS_KEY_ID"),
        ({"AWS_SECRET_ACCESS_KEY": "wrong"}, None, "AWS_ACCESS_KEY_ID|s3:ListBucket"),
    ],
)
def test_a_refusal_says_what_to_do(
    service: S3Service,
    file: Path,
    monkeypatch: pytest.MonkeyPatch,
    environment: dict[str, str],
    bucket: str | None,
    remedy: str,
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    store = S3Store(bucket or service.bucket, endpoint=service.endpoint)
    for action in (lambda: store.put(file), lambda: store.open(reference(file)), store.check):
        with pytest.raises(StorageUnavailable) as caught:
            action()
        # An answer without a body says 403 and no more.
        assert re.search(
            f"{remedy}|s3:ListBucket" if environment else remedy, str(caught.value.remedy)
        )
        assert "wrong" not in caught.value.message


def test_without_credentials(
    service: S3Service, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
    store = S3Store(service.bucket, endpoint=service.endpoint)
    with pytest.raises(StorageUnavailable, match="no S3 credentials"):
        store.put(file)


def test_a_link_yields_one_content_for_minutes(s3: S3Store, file: Path) -> None:
    ref = s3.put(file)
    address = s3.link(ref, "model/my model.bin")
    assert address is not None
    assert f"X-Amz-Expires={LINK_SECONDS}" in address
    assert LINK_SECONDS <= 15 * 60
    with urlopen(address) as answer:
        assert answer.read() == file.read_bytes()
        assert answer.headers["content-disposition"].endswith("my%20model.bin")
    # The signature is of this key and of this method.
    for changed in (address.replace(ref.sha256, "0" * 64), address + "&versionId=1"):
        with pytest.raises(HTTPError):
            urlopen(changed)
    with pytest.raises(ArtifactMissing):
        s3.link(FileRef("0" * 64, 1), "model.bin")


def test_links_are_for_the_public_address(service: S3Service, file: Path, proxy: TcpProxy) -> None:
    store = S3Store(service.bucket, endpoint=service.endpoint, public_endpoint=proxy.url)
    address = store.link(store.put(file), "file")
    assert address is not None
    assert address.startswith(f"{proxy.url}/{service.bucket}/sha256/")
    with urlopen(address) as answer:
        assert answer.read() == file.read_bytes()


def test_uploads_that_nobody_goes_on_with_are_removed(s3: S3Store, large: Path) -> None:
    where = s3._at(reference(large).sha256)
    s3._client.create_multipart_upload(**where)
    assert s3.clean_up(older_seconds=3600) == 0
    assert len(under_way(s3)) == 1
    assert s3.clean_up(older_seconds=-60) == 1
    assert under_way(s3) == []


def test_a_large_content_is_dropped_and_restored(
    s3: S3Store, large: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ref = s3.put(large)
    s3.drop(ref.sha256)
    s3.restore(ref.sha256)
    s3.fetch(ref, tmp_path / "copy")


def test_every_error_is_one_of_ours(behind: S3Store, proxy: TcpProxy, large: Path) -> None:
    """Cut anywhere: whatever happens, boto3's own exceptions do not come through."""
    for bytes_sent in range(1, 18 * MIB, 2 * MIB):
        proxy.up_bytes, proxy.down_after = 0, bytes_sent
        with suppress(ArtifactError):
            behind.put(large)
        proxy.down, proxy.down_after = False, None
    ref = behind.put(large)
    with behind.open(ref) as opened:
        assert sha256(opened.read()).hexdigest() == ref.sha256
    assert under_way(behind) == []


def reference(path: Path) -> FileRef:
    return FileRef(sha256(path.read_bytes()).hexdigest(), path.stat().st_size)


def under_way(store: S3Store) -> list[Any]:
    """Uploads below the store's prefix that were begun and not ended."""
    found = store._client.list_multipart_uploads(Bucket=store._bucket, Prefix=store._prefix)
    return list(found.get("Uploads", ()))

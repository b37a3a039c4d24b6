"""What every artefact store does, a folder and a real S3 service alike."""

import io
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path

import pytest

from worker.artifacts import ArtifactMissing, ArtifactStore
from worker.ledger import FileRef

NOTHING = FileRef("0" * 64, 1)


def test_what_is_put_can_be_fetched(store: ArtifactStore, file: Path, tmp_path: Path) -> None:
    ref = store.put(file)
    assert ref == FileRef(sha256(file.read_bytes()).hexdigest(), file.stat().st_size)
    store.fetch(ref, tmp_path / "deep" / "down" / "copy")
    assert (tmp_path / "deep" / "down" / "copy").read_bytes() == file.read_bytes()
    assert store.put(file) == ref


def test_an_empty_file(store: ArtifactStore, tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    ref = store.put(tmp_path / "empty")
    assert ref.size == 0
    store.fetch(ref, tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == b""


def test_reading_anywhere(store: ArtifactStore, tmp_path: Path) -> None:
    content = bytes(number % 251 for number in range(3_000_000))
    (tmp_path / "large").write_bytes(content)
    ref = store.put(tmp_path / "large")
    with store.open(ref) as opened:
        assert opened.read(10) == content[:10]
        assert opened.seek(-5, io.SEEK_END) == ref.size - 5
        assert opened.read() == content[-5:]
        assert opened.read(1) == b""
        opened.seek(1_000_000)
        assert opened.read(1_500_000) == content[1_000_000:2_500_000]
        opened.seek(ref.size + 10)
        assert opened.read() == b""
        opened.seek(0)
        assert opened.read() == content


def test_missing_content(store: ArtifactStore, tmp_path: Path) -> None:
    with pytest.raises(ArtifactMissing):
        store.fetch(NOTHING, tmp_path / "copy")
    with pytest.raises(ArtifactMissing):
        store.open(NOTHING)
    assert not (tmp_path / "copy").exists()


def test_a_missing_source_is_not_the_stores_fault(store: ArtifactStore, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        store.put(tmp_path / "nothing")


def test_many_writers_of_one_content(store: ArtifactStore, file: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        refs = list(pool.map(store.put, [file] * 24))
    assert len(set(refs)) == 1
    assert [each.sha256 for each in listed(store, refs[0])] == [refs[0].sha256]


def test_a_usable_store_passes_its_check(store: ArtifactStore) -> None:
    store.check()


def test_what_is_dropped_can_be_read_until_it_is_erased(
    store: ArtifactStore, file: Path, tmp_path: Path
) -> None:
    ref = store.put(file)
    assert [each.sha256 for each in listed(store, ref)] == [ref.sha256]
    store.drop(ref.sha256)
    assert listed(store, ref) == []
    assert [each.sha256 for each in listed(store, ref, dropped=True)] == [ref.sha256]
    store.fetch(ref, tmp_path / "copy")
    store.erase(ref.sha256)
    with pytest.raises(ArtifactMissing):
        store.open(ref)
    # Whoever does the same a moment later is not surprised.
    store.drop(ref.sha256)
    store.restore(ref.sha256)
    store.erase(ref.sha256)
    assert listed(store, ref) == listed(store, ref, dropped=True) == []


def test_what_is_restored_is_as_before(store: ArtifactStore, file: Path, tmp_path: Path) -> None:
    ref = store.put(file)
    store.drop(ref.sha256)
    store.restore(ref.sha256)
    assert listed(store, ref, dropped=True) == []
    store.fetch(ref, tmp_path / "copy")


def test_erasing_leaves_what_was_put_again(
    store: ArtifactStore, file: Path, tmp_path: Path
) -> None:
    ref = store.put(file)
    store.drop(ref.sha256)
    store.put(file)
    store.erase(ref.sha256)
    store.fetch(ref, tmp_path / "copy")


def test_ages_are_small_for_what_is_new_and_shards_are_first_digits(
    store: ArtifactStore, tmp_path: Path
) -> None:
    refs = set()
    for number in range(20):
        (tmp_path / "one").write_text(str(number))
        refs.add(store.put(tmp_path / "one"))
    found = [each for shard in "0123456789abcdef" for each in store.contents(shard)]
    assert {each.sha256 for each in found} == {ref.sha256 for ref in refs}
    assert all(-5 < each.age_seconds < 60 for each in found)
    assert all(each.sha256[0] == "a" for each in store.contents("a"))


def listed(store: ArtifactStore, ref: FileRef, *, dropped: bool = False) -> list:
    return list(store.contents(ref.sha256[0], dropped=dropped))

"""Entries on disk are whole and right, or absent."""

import hashlib
import threading
from pathlib import Path

import pytest
import torch

from kdcore.distill import kept_logits
from kdcore.distill.kept_logits import KeptLogits

SHELF = "5" * 64


def name(number: int) -> str:
    return hashlib.sha256(str(number).encode()).hexdigest()


def logits(number: int) -> torch.Tensor:
    return torch.randn(3, 4, 5, generator=torch.Generator().manual_seed(number))


@pytest.fixture
def kept(tmp_path: Path) -> KeptLogits:
    return KeptLogits(tmp_path / "teachers", quota=10**6)


def only_file(kept: KeptLogits) -> Path:
    (path,) = (path for path in kept.folder.rglob("*") if path.is_file())
    return path


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_what_is_put_comes_back_bit_by_bit(kept: KeptLogits, dtype: torch.dtype) -> None:
    assert kept.get(SHELF, name(0)) is None
    # A view of something larger, with strides of its own.
    whole = torch.randn(4, 3, 9).to(dtype).permute(1, 0, 2)[..., 2:7]
    whole[0, 0, 0] = float("inf")
    assert kept.put(SHELF, name(0), whole)
    back = KeptLogits(kept.folder, quota=1).get(SHELF, name(0))
    assert back is not None
    assert back.dtype == dtype
    assert torch.equal(back, whole)
    assert kept.get("6" * 64, name(0)) is None


@pytest.mark.parametrize("damage", ["torn", "empty", "rotten", "header", "longer", "misplaced"])
def test_a_damaged_entry_is_no_entry_until_it_is_written_again(
    kept: KeptLogits, damage: str
) -> None:
    kept.put(SHELF, name(0), logits(0))
    path = only_file(kept)
    content = bytearray(path.read_bytes())
    if damage == "torn":
        path.write_bytes(content[:-7])
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "longer":
        path.write_bytes(content + b"\0")
    elif damage == "misplaced":
        kept.put(SHELF, name(1), logits(1))
        path.write_bytes(next(p for p in kept.folder.rglob("*.logits") if p != path).read_bytes())
    else:
        content[-1 if damage == "rotten" else 20] ^= 1
        path.write_bytes(content)
    assert kept.get(SHELF, name(0)) is None
    assert kept.put(SHELF, name(0), logits(0))
    back = kept.get(SHELF, name(0))
    assert back is not None
    assert torch.equal(back, logits(0))


def test_beyond_the_quota_nothing_is_written(tmp_path: Path) -> None:
    entry = 32 + 3 * 4 * 5 * 4
    kept = KeptLogits(tmp_path, quota=2 * entry)
    assert [kept.put(SHELF, name(number), logits(number)) for number in range(3)] == [
        True, True, False,
    ]  # fmt: skip
    assert kept.get(SHELF, name(1)) is not None
    assert kept.get(SHELF, name(2)) is None
    another_run = KeptLogits(tmp_path, quota=2 * entry)
    assert not another_run.put(SHELF, name(3), logits(3)), "the quota is of all runs together"


def test_the_disk_keeps_its_reserve(kept: KeptLogits, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_logits, "RESERVE_BYTES", 10**18)
    assert not kept.put(SHELF, name(0), logits(0))
    assert not list(kept.folder.rglob("*.logits"))


def test_a_folder_that_cannot_be_written_keeps_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    kept = KeptLogits(tmp_path / "file" / "teachers", quota=10**6)
    assert not kept.put(SHELF, name(0), logits(0))
    assert kept.get(SHELF, name(0)) is None


def test_readers_beside_writers_see_whole_entries_only(tmp_path: Path) -> None:
    """Several runs fill and read one folder; a reader never gets what a writer has begun."""
    wrong: list[int] = []

    def read() -> None:
        mine = KeptLogits(tmp_path, quota=10**6)
        for _ in range(20):
            for number in range(8):
                found = mine.get(SHELF, name(number))
                if found is not None and not torch.equal(found, logits(number)):
                    wrong.append(number)

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    kept = KeptLogits(tmp_path, quota=10**8)
    for _ in range(20):
        for number in range(8):
            assert kept.put(SHELF, name(number), logits(number))
    for reader in readers:
        reader.join()
    assert not wrong

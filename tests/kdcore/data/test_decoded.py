"""Decoded samples on disk: shared, checked, and never worth a failure."""

import pickle
import shutil
from pathlib import Path

import pytest
import torch

from kdcore.data import decoded
from kdcore.data.batches import batches
from kdcore.data.samples import Samples
from kdcore.spec.dataset import DatasetManifest, DatasetSource
from kdcore.spec.train import TrainSpec


@pytest.fixture(autouse=True)
def nothing_fits_into_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kdcore.data.samples.RAM_BYTES_MAX", 0)
    monkeypatch.setattr(decoded, "RESERVE_BYTES", 0)


@pytest.fixture
def mine(source: DatasetSource, tmp_path: Path) -> Path:
    return Path(shutil.copytree(source.root, tmp_path / "mine"))


def opened(root: Path, manifest: DatasetManifest, cache: Path) -> Samples:
    return Samples(root, manifest, manifest.splits["train"], cache=cache)


def equal(one: Samples, other: Samples) -> bool:
    return all(
        torch.equal(a, b)
        for index in range(len(one))
        for a, b in zip(one[index], other[index], strict=True)
    )


def lose(root: Path) -> None:
    """No file can be read any more."""
    for path in root.rglob("*.png"):
        path.write_bytes(b"")


def test_after_the_first_epoch_no_file_is_read(
    mine: Path, manifest: DatasetManifest, tmp_path: Path
) -> None:
    plain = Samples(mine, manifest, manifest.splits["train"])
    kept = [plain[index] for index in range(len(plain))]
    first = opened(mine, manifest, tmp_path / "cache")
    for index in range(len(first)):
        first[index]
    lose(mine)
    other_run = opened(mine, manifest, tmp_path / "cache")
    for samples in (first, other_run):
        for index, (image, mask) in enumerate(kept):
            assert torch.equal(samples[index][0], image)
            assert torch.equal(samples[index][1], mask)
    (file,) = (tmp_path / "cache").iterdir()
    assert file.stat().st_size == 8 * 8 + 8 * 4 * 40 * 48


def test_what_is_changed_by_a_view_stays_in_it(
    source: DatasetSource, manifest: DatasetManifest, tmp_path: Path
) -> None:
    samples = opened(Path(source.root), manifest, tmp_path)
    before = samples[0][0].clone()
    samples[0][0].zero_()
    assert torch.equal(samples[0][0], before)


def test_damage_is_noticed_and_mended(
    source: DatasetSource, manifest: DatasetManifest, tmp_path: Path
) -> None:
    root = Path(source.root)
    plain = Samples(root, manifest, manifest.splits["train"])
    assert equal(opened(root, manifest, tmp_path), plain)
    (file,) = tmp_path.glob("*.decoded")
    content = bytearray(file.read_bytes())
    content[1000] ^= 1
    file.write_bytes(content)
    assert equal(opened(root, manifest, tmp_path), plain)
    assert file.read_bytes()[1000] == content[1000] ^ 1
    file.write_bytes(content[:500])
    assert equal(opened(root, manifest, tmp_path), plain)


def test_a_sample_without_its_checksum_is_not_there(
    source: DatasetSource, manifest: DatasetManifest, tmp_path: Path
) -> None:
    samples = opened(Path(source.root), manifest, tmp_path)
    samples[0]
    (file,) = tmp_path.glob("*.decoded")
    with file.open("r+b") as handle:
        handle.write(bytes(8))
    again = decoded.open_decoded(tmp_path, manifest, manifest.splits["train"])
    assert again is not None
    assert again.get(0) is None


def test_other_meanings_and_other_samples_have_other_files(
    source: DatasetSource, manifest: DatasetManifest, tmp_path: Path
) -> None:
    other = manifest.model_copy(update={"ignored_ids": (9,)})
    opened(Path(source.root), manifest, tmp_path)
    opened(Path(source.root), other, tmp_path)
    Samples(Path(source.root), manifest, manifest.splits["val"], cache=tmp_path)
    assert len(list(tmp_path.iterdir())) == 3


def test_without_room_samples_are_read_as_ever(
    source: DatasetSource,
    manifest: DatasetManifest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    root = Path(source.root)
    plain = Samples(root, manifest, manifest.splits["train"])
    monkeypatch.setattr(decoded, "RESERVE_BYTES", 2**60)
    assert equal(opened(root, manifest, tmp_path / "cache"), plain)
    assert not list((tmp_path / "cache").iterdir())
    (tmp_path / "file").write_text("no folder")
    assert equal(opened(root, manifest, tmp_path / "file"), plain)


def test_a_disk_that_fills_up_costs_only_the_cache(
    source: DatasetSource,
    manifest: DatasetManifest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full(descriptor: int, content: bytes, offset: int) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(decoded.os, "pwrite", full)
    root = Path(source.root)
    samples = opened(root, manifest, tmp_path)
    plain = Samples(root, manifest, manifest.splits["train"])
    assert equal(samples, plain)
    assert equal(samples, plain)


def test_a_cleaned_folder_costs_only_the_cache(
    source: DatasetSource, manifest: DatasetManifest, tmp_path: Path
) -> None:
    root = Path(source.root)
    samples = opened(root, manifest, tmp_path)
    (file,) = tmp_path.iterdir()
    file.unlink()
    assert equal(samples, Samples(root, manifest, manifest.splits["train"]))


def test_loader_processes_share_it(
    source: DatasetSource, manifest: DatasetManifest, tmp_path: Path
) -> None:
    spec = TrainSpec(size=(32, 32), batch=4, steps=4)
    alone = list(
        batches(Samples(Path(source.root), manifest, manifest.splits["train"]), None, spec,
                share=0, seed=1, start=0)
    )  # fmt: skip
    samples = opened(Path(source.root), manifest, tmp_path)
    helped = list(batches(samples, None, spec, share=0, seed=1, start=0, workers=2))
    for one, other in zip(alone, helped, strict=True):
        assert torch.equal(one.images_NCHW, other.images_NCHW)
    file = decoded.open_decoded(tmp_path, manifest, manifest.splits["train"])
    assert file is not None
    assert all(file.get(index) is not None for index in range(8))
    assert len(pickle.dumps(file)) < 5000

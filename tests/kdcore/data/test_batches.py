"""The order of samples is a function of (seed, step); views keep image and mask together."""

import shutil
from pathlib import Path

import pytest
import torch

from kdcore.data.augment import augment
from kdcore.data.batches import batches
from kdcore.data.samples import Samples
from kdcore.errors import DatasetChanged, SpecError
from kdcore.ranks import Ranks
from kdcore.spec.dataset import DatasetManifest, DatasetSource
from kdcore.spec.train import Augment, TrainSpec

PLAIN = Augment(scale=(1.0, 1.0), horizontal_flip=False, jitter=0)


@pytest.fixture
def train(source: DatasetSource, manifest: DatasetManifest) -> Samples:
    return Samples(Path(source.root), manifest, manifest.splits["train"])


@pytest.fixture
def pool(source: DatasetSource, manifest: DatasetManifest) -> Samples:
    return Samples(Path(source.root), manifest, manifest.unlabelled)


SPEC = TrainSpec(size=(32, 32), batch=4, steps=12)


def test_starting_later_gives_the_same_batches(train: Samples, pool: Samples) -> None:
    whole = list(batches(train, pool, SPEC, share=0.5, seed=1, start=0))
    late = list(batches(train, pool, SPEC, share=0.5, seed=1, start=7))
    assert len(whole) == 12
    for one, other in zip(whole[7:], late, strict=True):
        assert torch.equal(one.images_NCHW, other.images_NCHW)
        assert torch.equal(one.labels_NHW, other.labels_NHW)


def test_ranks_share_the_same_batches(train: Samples, pool: Samples) -> None:
    whole = list(batches(train, pool, SPEC, share=0.5, seed=1, start=7))
    shared = [
        list(batches(train, pool, SPEC, share=0.5, seed=1, start=7, ranks=Ranks(rank, 2)))
        for rank in (0, 1)
    ]
    for all_of_it, *parts in zip(whole, *shared, strict=True):
        for rank, part in enumerate(parts):
            assert part.labelled == 1
            assert torch.equal(part.images_NCHW, all_of_it.images_NCHW[rank::2])
            assert torch.equal(part.labels_NHW, all_of_it.labels_NHW[rank::2])


@pytest.mark.parametrize(("share", "which"), [(0.25, "without"), (0.75, "with")])
def test_each_rank_needs_images_of_both_kinds(
    train: Samples, pool: Samples, share: float, which: str
) -> None:
    stream = batches(train, pool, SPEC, share=share, seed=1, start=0, ranks=Ranks(0, 2))
    with pytest.raises(SpecError, match=f"1 images {which} masks") as caught:
        next(stream)
    assert caught.value.field == "train.gpus"


def test_loader_processes_change_nothing(train: Samples) -> None:
    alone = list(batches(train, None, SPEC, share=0, seed=1, start=10))
    helped = list(batches(train, None, SPEC, share=0, seed=1, start=10, workers=2))
    for one, other in zip(alone, helped, strict=True):
        assert torch.equal(one.images_NCHW, other.images_NCHW)


def test_an_epoch_shows_every_sample_once(train: Samples) -> None:
    spec = TrainSpec(size=(40, 48), batch=4, steps=4, augment=PLAIN)
    seen = [image for batch in batches(train, None, spec, share=0, seed=1, start=0)
            for image in batch.images_NCHW]  # fmt: skip
    for epoch in (seen[:8], seen[8:]):
        for index in range(8):
            assert sum(torch.equal(image, train[index][0]) for image in epoch) == 1
    assert not all(torch.equal(a, b) for a, b in zip(seen[:8], seen[8:], strict=True))


def test_the_pool_has_its_share_and_valid_pixels(train: Samples, pool: Samples) -> None:
    spec = TrainSpec(size=(40, 48), batch=4, steps=1, augment=PLAIN)
    batch = next(batches(train, pool, spec, share=0.5, seed=0, start=0))
    assert batch.labelled == 2
    assert (batch.labels_NHW[2:] == 0).all()
    for image in batch.images_NCHW[2:]:
        assert any(torch.equal(image, pool[index][0]) for index in range(len(pool)))


def test_global_random_numbers_are_left_alone(train: Samples) -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    next(batches(train, None, SPEC, share=0, seed=1, start=0))
    assert torch.equal(before, torch.get_rng_state())


def test_image_and_mask_move_together() -> None:
    mask = torch.zeros(40, 48, dtype=torch.uint8)
    mask[10:20, 5:30] = 1
    image = (200 * mask)[None].repeat(3, 1, 1)
    spec = Augment(vertical_flip=True, quarter_turns=True, jitter=0)
    for seed in range(30):
        view, labels = augment(image, mask, spec, (32, 32), torch.Generator().manual_seed(seed))
        assert view.shape == (3, 32, 32)
        inside = (labels == 1) & (view[0] > 100)
        wrong = (labels == 1) & (view[0] < 60) | (labels == 0) & (view[0] > 140)
        assert inside.sum() + (labels != 1).sum() > 0
        assert wrong.float().mean() < 0.02


def test_rotation_turns_both_and_leaves_no_invented_corner() -> None:
    mask = torch.zeros(64, 64, dtype=torch.uint8)
    mask[20:44, 8:56] = 1
    image = (100 + 100 * mask)[None].repeat(3, 1, 1)
    spec = PLAIN.model_copy(update={"rotate": 30.0})
    turned = 0
    for seed in range(10):
        view, labels = augment(image, mask, spec, (64, 64), torch.Generator().manual_seed(seed))
        turned += int(not torch.equal(labels, mask))
        wrong = (labels == 1) & (view[0] < 120) | (labels == 0) & (view[0] > 180)
        assert wrong.float().mean() < 0.01
        assert ((view[0] == 0) <= (labels == 255)).float().mean() > 0.99
    assert turned > 8


def test_what_lies_outside_the_image_is_ignored() -> None:
    view, labels = augment(
        torch.full((3, 10, 10), 9, dtype=torch.uint8),
        torch.zeros(10, 10, dtype=torch.uint8),
        PLAIN,
        (16, 16),
        torch.Generator().manual_seed(0),
    )
    assert (labels == 255).sum() == 16 * 16 - 100
    assert ((view[0] == 0) == (labels == 255)).all()


def test_a_changed_file_is_noticed_when_it_is_read(
    source: DatasetSource, manifest: DatasetManifest, tmp_path: Path
) -> None:
    shutil.copytree(source.root, tmp_path / "copy")
    samples = Samples(tmp_path / "copy", manifest, manifest.splits["train"])
    entry = manifest.splits["train"][0].image
    path = tmp_path / "copy" / entry.path
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    samples.check_presence()
    with pytest.raises(DatasetChanged, match=entry.path):
        samples[0]
    path.unlink()
    with pytest.raises(DatasetChanged, match="missing"):
        samples.check_presence()

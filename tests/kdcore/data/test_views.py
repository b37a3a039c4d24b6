"""Views that come again."""

from pathlib import Path

import pytest
import torch

from kdcore.data.batches import Batch, batches
from kdcore.data.samples import Samples
from kdcore.spec.dataset import DatasetManifest, DatasetSource
from kdcore.spec.train import TrainSpec

SPEC = TrainSpec(size=(32, 32), batch=4, steps=12, views=3)


@pytest.fixture
def train(source: DatasetSource, manifest: DatasetManifest) -> Samples:
    return Samples(Path(source.root), manifest, manifest.splits["train"])


@pytest.fixture
def pool(source: DatasetSource, manifest: DatasetManifest) -> Samples:
    return Samples(Path(source.root), manifest, manifest.unlabelled)


def stream(train: Samples, spec: TrainSpec, seed: int, pool: Samples | None = None) -> list[Batch]:
    share = 0.5 if pool else 0.0
    return list(batches(train, pool, spec, share=share, seed=seed, start=0))


def views_of(seen: list[Batch]) -> dict[str, torch.Tensor]:
    """Views, image above mask, by their names."""
    return {
        name: torch.cat([image.long(), mask[None]])
        for batch in seen
        for name, image, mask in zip(batch.views, batch.images_NCHW, batch.labels_NHW, strict=True)
    }


def test_each_image_has_as_many_views_as_asked_for_and_all_in_turn(train: Samples) -> None:
    first = stream(train, SPEC, 1)
    assert len(views_of(first)) == 3 * len(train), "12 steps are 6 epochs"
    epochs = [views_of(first[start : start + 2]) for start in range(0, 12, 2)]
    assert all(len(epoch) == len(train) for epoch in epochs)
    for early, late in zip(epochs[:3], epochs[3:], strict=True):
        assert early.keys() == late.keys()
        assert all(torch.equal(early[name], late[name]) for name in early)


def test_seeds_share_views_and_differ_in_their_order(train: Samples, pool: Samples) -> None:
    spec = SPEC.model_copy(update={"steps": 24})
    one, other = stream(train, spec, 1, pool), stream(train, spec, 2, pool)
    of_one, of_other = views_of(one), views_of(other)
    assert of_one.keys() == of_other.keys()
    assert len(of_one) == 3 * (len(train) + len(pool))
    assert all(torch.equal(of_one[name], of_other[name]) for name in of_one)
    assert [batch.views for batch in one] != [batch.views for batch in other]


@pytest.mark.parametrize("change", [{"view_seed": 1}, {"view_seed": "run"}])
def test_another_view_seed_makes_other_views(train: Samples, change: dict[str, object]) -> None:
    mine = views_of(stream(train, SPEC, 1))
    others = views_of(stream(train, SPEC.model_copy(update=change), 1))
    assert not mine.keys() & others.keys()


def test_loader_processes_and_later_starts_give_the_same_views(train: Samples) -> None:
    alone = stream(train, SPEC, 1)
    helped = list(batches(train, None, SPEC, share=0, seed=1, start=5, workers=2))
    assert [batch.views for batch in helped] == [batch.views for batch in alone[5:]]
    assert all(
        torch.equal(a.images_NCHW, b.images_NCHW) for a, b in zip(alone[5:], helped, strict=True)
    )


def test_without_the_field_views_are_fresh_and_have_no_names(train: Samples) -> None:
    endless = SPEC.model_copy(update={"views": None, "steps": 20})
    seen = stream(train, endless, 1)
    assert all(batch.views == () for batch in seen)
    images = {image.numpy().tobytes() for batch in seen for image in batch.images_NCHW}
    assert len(images) == 80

"""The order of samples: a pure function of (seed, step), so that a resumed run continues exactly."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from kdcore.data.augment import augment
from kdcore.data.samples import Samples
from kdcore.data.views import identity, number_of, replayable
from kdcore.errors import SpecError
from kdcore.ranks import ALONE, Ranks
from kdcore.spec.dataset import Sample
from kdcore.spec.train import TrainSpec

_ORDER, _POOL, _VIEW = 1, 2, 3


@dataclass(frozen=True)
class Batch:
    """images (N, 3, H, W) uint8; labels (N, H, W) int64, 255 = ignore; labelled (N,) bool.

    Unlabelled images stand behind the labelled ones; their labels are 0 wherever there is a picture,
    so that a teacher's term sees those pixels as valid. Label terms must look at ``labelled`` only.
    ``views`` names the views (N,) by their pixels, where `train.views` lets them come again.
    """

    images_NCHW: Tensor
    labels_NHW: Tensor
    labelled: int
    views: tuple[str, ...] = ()

    def to(self, device: torch.device) -> "Batch":
        return Batch(
            self.images_NCHW.to(device, non_blocking=True),
            self.labels_NHW.to(device, non_blocking=True),
            self.labelled,
            self.views,
        )

    def part(self, index: int, of: int) -> "Batch":
        """Every ``of``-th image from ``index`` on, of those with and of those without a mask."""
        rows = self.rows(index, of)
        return Batch(
            self.images_NCHW[rows],
            self.labels_NHW[rows],
            len(range(index, self.labelled, of)),
            tuple(self.views[row] for row in rows) if self.views else (),
        )

    def rows(self, index: int, of: int) -> list[int]:
        """Places of the images of a `part`."""
        pool = range(self.labelled + index, len(self.images_NCHW), of)
        return [*range(index, self.labelled, of), *pool]

    def splits(self, into: int, *, least: int) -> bool:
        """Whether so many parts have at least ``least`` images each, and all of them of both kinds."""
        pool = len(self.images_NCHW) - self.labelled
        fewest = self.labelled // into + pool // into
        return self.labelled >= into and (pool == 0 or pool >= into) and fewest >= least


def batches(
    labelled: Samples,
    pool: Samples | None,
    train: TrainSpec,
    *,
    share: float,
    seed: int,
    start: int,
    workers: int = 0,
    ranks: Ranks = ALONE,
) -> Iterator[Batch]:
    """Batches for the steps ``start`` .. ``train.steps``; ``share`` of each comes from ``pool``.

    Of several ranks each gets every ``ranks.count``-th image of the same batches, from its own number
    on. Raises: SpecError, where images with or without masks are too few for all of them.
    """
    views = _Views(labelled, pool, train, share=share, seed=seed)
    _check_share(views, train, ranks)
    loader: DataLoader[_View] = DataLoader(
        views,
        batch_size=train.batch // ranks.count,
        # Batches are multiples of the ranks, so these are the same places in each of them.
        sampler=range(start * train.batch + ranks.rank, train.steps * train.batch, ranks.count),
        num_workers=workers,
        pin_memory=torch.cuda.is_available(),
        # Without one of its own the loader draws its seed from the global generator, and a run
        # that starts a second loader (after a resume) would see other dropout masks.
        generator=torch.Generator(),
    )
    own_labelled = len(range(ranks.rank, views.labelled_a_batch, ranks.count))
    for images_NCHW, masks_NHW, names in loader:
        known = tuple(names) if train.views else ()
        yield Batch(images_NCHW, masks_NHW.long(), own_labelled, known)


def _check_share(views: "_Views", train: TrainSpec, ranks: Ranks) -> None:
    from_pool = train.batch - views.labelled_a_batch
    for images, which in ((views.labelled_a_batch, "with"), (from_pool, "without")):
        if 0 < images < ranks.count:
            raise SpecError(
                f"{images} images {which} masks in a batch are too few for {ranks.count} GPUs",
                field="train.gpus",
                remedy="fewer GPUs, a larger batch, or another `unlabelled.share`",
            )


_View = tuple[Tensor, Tensor, str]
"""Image (3, H, W), mask (H, W) and, where it comes again, the view's name."""


class _Views(Dataset[_View]):
    """Item p is the view at position p of the endless stream of samples of this seed."""

    def __init__(
        self, labelled: Samples, pool: Samples | None, train: TrainSpec, *, share: float, seed: int
    ) -> None:
        self._labelled, self._pool = labelled, pool
        self._train, self._seed = train, seed
        from_pool = min(train.batch - 1, round(share * train.batch)) if pool else 0
        self.labelled_a_batch = train.batch - from_pool
        self._epochs: dict[tuple[int, int], list[int]] = {}

    def __len__(self) -> int:
        return self._train.steps * self._train.batch

    def __getitem__(self, position: int) -> _View:
        step, slot = divmod(position, self._train.batch)
        if slot < self.labelled_a_batch:
            samples, stream = self._labelled, _ORDER
            nth = step * self.labelled_a_batch + slot
        else:
            assert self._pool is not None
            samples, stream = self._pool, _POOL
            from_pool = self._train.batch - self.labelled_a_batch
            nth = step * from_pool + slot - self.labelled_a_batch
        epoch, index = self._nth(nth, stream, samples)
        generator = self._generator(position, samples.entries[index], epoch)
        image, mask = augment(*samples[index], self._train.augment, self._train.size, generator)
        return image, mask, identity(image) if self._train.views else ""

    def _generator(self, position: int, sample: Sample, epoch: int) -> torch.Generator:
        views, view_seed = self._train.views, self._train.view_seed
        if views is None:
            return _generator(self._seed, _VIEW, position)
        number = number_of(epoch, views=views, seed=self._seed)
        return replayable(sample, number, seed=self._seed if view_seed == "run" else view_seed)

    def _nth(self, nth: int, stream: int, samples: Samples) -> tuple[int, int]:
        """Epoch and sample at place ``nth`` of a stream that visits all once an epoch, reshuffled."""
        epoch, place = divmod(nth, len(samples))
        key = (stream, epoch)
        if key not in self._epochs:
            generator = _generator(self._seed, stream, epoch)
            self._epochs = {k: v for k, v in self._epochs.items() if k[0] != stream}
            self._epochs[key] = torch.randperm(len(samples), generator=generator).tolist()
        return epoch, self._epochs[key][place]


def _generator(seed: int, stream: int, index: int) -> torch.Generator:
    # One 63-bit number per (seed, stream, index): a multiplicative hash, not to collide for neighbours.
    mixed = seed * 0x9E3779B97F4A7C15 + stream * 0xC2B2AE3D27D4EB4F + index * 0x165667B19E3779F9
    return torch.Generator().manual_seed(mixed % (2**63 - 1))

"""The order of samples: a pure function of (seed, step), so that a resumed run continues exactly."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from kdcore.data.augment import augment
from kdcore.data.samples import Samples
from kdcore.spec.train import TrainSpec

_ORDER, _POOL, _VIEW = 1, 2, 3


@dataclass(frozen=True)
class Batch:
    """images (N, 3, H, W) uint8; labels (N, H, W) int64, 255 = ignore; labelled (N,) bool.

    Unlabelled images stand behind the labelled ones; their labels are 0 wherever there is a picture,
    so that a teacher's term sees those pixels as valid. Label terms must look at ``labelled`` only.
    """

    images_NCHW: Tensor
    labels_NHW: Tensor
    labelled: int

    def to(self, device: torch.device) -> "Batch":
        return Batch(
            self.images_NCHW.to(device, non_blocking=True),
            self.labels_NHW.to(device, non_blocking=True),
            self.labelled,
        )


def batches(
    labelled: Samples,
    pool: Samples | None,
    train: TrainSpec,
    *,
    share: float,
    seed: int,
    start: int,
    workers: int = 0,
) -> Iterator[Batch]:
    """Batches for the steps ``start`` .. ``train.steps``; ``share`` of each comes from ``pool``."""
    views = _Views(labelled, pool, train, share=share, seed=seed)
    loader: DataLoader[tuple[Tensor, Tensor]] = DataLoader(
        views,
        batch_size=train.batch,
        sampler=range(start * train.batch, train.steps * train.batch),
        num_workers=workers,
        pin_memory=torch.cuda.is_available(),
        # Without one of its own the loader draws its seed from the global generator, and a run
        # that starts a second loader (after a resume) would see other dropout masks.
        generator=torch.Generator(),
    )
    for images_NCHW, masks_NHW in loader:
        yield Batch(images_NCHW, masks_NHW.long(), views.labelled_a_batch)


class _Views(Dataset[tuple[Tensor, Tensor]]):
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

    def __getitem__(self, position: int) -> tuple[Tensor, Tensor]:
        step, slot = divmod(position, self._train.batch)
        if slot < self.labelled_a_batch:
            image, mask = self._labelled[self._nth(step * self.labelled_a_batch + slot, _ORDER)]
        else:
            assert self._pool is not None
            from_pool = self._train.batch - self.labelled_a_batch
            nth = step * from_pool + slot - self.labelled_a_batch
            image, mask = self._pool[self._nth(nth, _POOL)]
        generator = _generator(self._seed, _VIEW, position)
        return augment(image, mask, self._train.augment, self._train.size, generator)

    def _nth(self, nth: int, stream: int) -> int:
        """Sample at place ``nth`` of a stream that visits all samples once an epoch, reshuffled."""
        samples = self._labelled if stream == _ORDER else self._pool
        assert samples is not None
        epoch, place = divmod(nth, len(samples))
        key = (stream, epoch)
        if key not in self._epochs:
            generator = _generator(self._seed, stream, epoch)
            self._epochs = {k: v for k, v in self._epochs.items() if k[0] != stream}
            self._epochs[key] = torch.randperm(len(samples), generator=generator).tolist()
        return self._epochs[key][place]


def _generator(seed: int, stream: int, index: int) -> torch.Generator:
    # One 63-bit number per (seed, stream, index): a multiplicative hash, not to collide for neighbours.
    mixed = seed * 0x9E3779B97F4A7C15 + stream * 0xC2B2AE3D27D4EB4F + index * 0x165667B19E3779F9
    return torch.Generator().manual_seed(mixed % (2**63 - 1))

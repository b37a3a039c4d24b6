"""Data as a plain loop has it: float tensors in memory, or PIL, torchvision and worker processes."""

import warnings
from collections.abc import Iterable
from typing import Any, Protocol

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision import tv_tensors
from torchvision.transforms import v2

from benchmarks.speed.order import order_of_samples
from benchmarks.speed.scene import KEPT_BATCHES, Scene
from kdcore.data.batches import Batch
from kdcore.models.network import MEAN, STD
from kdcore.spec.train import Augment

Pair = tuple[Tensor, Tensor]
"""Images (N, 3, H, W) normalised and labels (N, H, W) int64; or one of each."""


class Data(Protocol):
    def stream(self, start: int, steps: int) -> Iterable[Pair]:
        """The batches of the steps ``start`` .. ``start + steps``."""
        ...


class InMemory:
    """The first batches of kdcore's order, prepared; then the same again."""

    def __init__(self, scene: Scene, *, pinned: bool) -> None:
        self._kept = [normalised(batch) for batch in scene.batches(KEPT_BATCHES)]
        if pinned:
            self._kept = [
                (images.pin_memory(), labels.pin_memory()) for images, labels in self._kept
            ]

    def stream(self, start: int, steps: int) -> Iterable[Pair]:
        return (self._kept[step % len(self._kept)] for step in range(start, start + steps))


class FromDisk:
    """The files in kdcore's order, each view drawn anew."""

    def __init__(self, scene: Scene, *, workers: int, pinned: bool) -> None:
        self._scene, self._workers, self._pinned = scene, workers, pinned
        self._files = _Files(scene)
        # More workers than cores are what people start.
        warnings.filterwarnings("ignore", message="This DataLoader will create")

    def stream(self, start: int, steps: int) -> Iterable[Pair]:
        order = order_of_samples(self._scene, start, steps)
        return DataLoader(
            self._files,
            batch_size=self._scene.workload.batch,
            sampler=order,
            num_workers=self._workers,
            pin_memory=self._pinned,
        )


def normalised(batch: Batch) -> Pair:
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (MEAN, STD))
    return (batch.images_NCHW.float() / 255 - mean) / std, batch.labels_NHW


class _Files(Dataset[Pair]):
    def __init__(self, scene: Scene) -> None:
        self._files = scene.files()
        self._transform = _transform(scene)

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> Pair:
        image, mask = self._files[index]
        with Image.open(image) as opened:
            pixels = opened.convert("RGB")
        with Image.open(mask) as opened:
            labels = tv_tensors.Mask(opened)
        image_CHW, mask_1HW = self._transform(pixels, labels)
        return image_CHW, mask_1HW[0].long()


def _transform(scene: Scene) -> Any:
    """The same kinds and ranges of change as kdcore's default `Augment`."""
    augment, size = Augment(), scene.workload.size
    height, width = scene.workload.image_size
    share = size * size / (height * width)
    return v2.Compose(
        [
            v2.RandomResizedCrop(
                size,
                scale=(share / augment.scale[1] ** 2, share / augment.scale[0] ** 2),
                ratio=(1, 1),
                antialias=True,
            ),
            v2.RandomHorizontalFlip(),
            v2.ColorJitter(augment.jitter, augment.jitter, augment.jitter),
            v2.ToImage(),
            v2.ToDtype({tv_tensors.Image: torch.float32, "others": None}, scale=True),
            v2.Normalize(MEAN, STD),
        ]
    )

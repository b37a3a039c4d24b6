"""In which order kdcore visits the samples, for loaders that are not its own."""

from itertools import islice

import torch
from torch import Tensor

from benchmarks.speed.scene import Scene
from kdcore.data.batches import batches
from kdcore.data.samples import Samples
from kdcore.spec.dataset import Sample
from kdcore.spec.train import Augment

_SIDE, _BYTE = 16, 256


def order_of_samples(scene: Scene, start: int, steps: int) -> list[int]:
    """Places in the training split, of the images of the steps ``start`` .. ``start + steps``."""
    still = Augment(scale=(1, 1), horizontal_flip=False, jitter=0)
    train = scene.train_spec().model_copy(update={"size": (_SIDE, _SIDE), "augment": still})
    numbered = _Numbered(scene.manifest.splits["train"])
    stream = batches(numbered, None, train, share=0, seed=scene.workload.seed, start=start)
    order = []
    for batch in islice(stream, steps):
        low_N, high_N = batch.images_NCHW[:, 0, 0, 0], batch.images_NCHW[:, 1, 0, 0]
        order += (low_N.int() + _BYTE * high_N.int()).tolist()
    return order


class _Numbered(Samples):
    """Small images whose colour is their place."""

    def __init__(self, entries: tuple[Sample, ...]) -> None:
        self.entries = entries

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        image_CHW = torch.zeros(3, _SIDE, _SIDE, dtype=torch.uint8)
        image_CHW[0], image_CHW[1] = index % _BYTE, index // _BYTE
        return image_CHW, torch.zeros(_SIDE, _SIDE, dtype=torch.uint8)

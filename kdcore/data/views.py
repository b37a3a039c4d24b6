"""Views that come again: of each image K, the same in every run that draws them by the same seed."""

import hashlib

import torch
from torch import Tensor

from kdcore.spec.dataset import Sample


def number_of(epoch: int, *, views: int, seed: int) -> int:
    """Which of the K views of an image comes in an epoch: all K in turn.

    Runs of several seeds begin at different ones, and fill one cache side by side.
    """
    return (epoch + seed) % views


def replayable(sample: Sample, number: int, *, seed: int) -> torch.Generator:
    """What draws view ``number``: a function of the view seed, the image file's content and k."""
    content = hashlib.sha256(f"{seed}/{sample.image.sha256}/{number}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(content[:8], "big") % (2**63 - 1))


def identity(image_CHW: Tensor) -> str:
    """sha256 (hex) of a view's pixels.

    Not of what led to them: the pixels also tell another decoder, another augmentation and whatever
    else makes another view, and equal pixels are all that a teacher sees.
    """
    return hashlib.sha256(image_CHW.contiguous().numpy().data).hexdigest()

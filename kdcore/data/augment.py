"""Random views of a sample. Every draw comes from the generator that is passed in."""

import torch
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as tvf

from kdcore.spec.dataset import IGNORE
from kdcore.spec.train import Augment, Size


def augment(
    image_CHW: Tensor, mask_HW: Tensor, spec: Augment, size: Size, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """A view of ``size``: image (3, h, w) uint8 and mask (h, w) uint8, transformed alike.

    Resize and crop are one step: a window of ``size / scale`` is cut out (padded with black and
    with `IGNORE` where it leaves the image) and resized, so that nothing outside it is computed.
    """
    scale = _uniform(generator, *spec.scale)
    window = (max(1, round(size[0] / scale)), max(1, round(size[1] / scale)))
    image_CHW, mask_HW = _cut(image_CHW, mask_HW, window, generator)
    if window != size:
        image_CHW = tvf.resize(image_CHW, list(size), antialias=True)
        # Plain NEAREST samples half a pixel beside where the bilinear image does.
        mask_HW = tvf.resize(
            mask_HW[None], list(size), interpolation=InterpolationMode.NEAREST_EXACT
        )[0]
    if spec.rotate:
        image_CHW, mask_HW = _rotated(
            image_CHW, mask_HW, _uniform(generator, -spec.rotate, spec.rotate)
        )
    if spec.horizontal_flip and _coin(generator):
        image_CHW, mask_HW = image_CHW.flip(-1), mask_HW.flip(-1)
    if spec.vertical_flip and _coin(generator):
        image_CHW, mask_HW = image_CHW.flip(-2), mask_HW.flip(-2)
    if spec.quarter_turns and size[0] == size[1]:
        turns = int(torch.randint(4, (), generator=generator))
        image_CHW, mask_HW = image_CHW.rot90(turns, (-2, -1)), mask_HW.rot90(turns, (-2, -1))
    if spec.jitter:
        low, high = max(0.0, 1 - spec.jitter), 1 + spec.jitter
        image_CHW = tvf.adjust_brightness(image_CHW, _uniform(generator, low, high))
        image_CHW = tvf.adjust_contrast(image_CHW, _uniform(generator, low, high))
        image_CHW = tvf.adjust_saturation(image_CHW, _uniform(generator, low, high))
    return image_CHW.contiguous(), mask_HW.contiguous()


def _cut(
    image_CHW: Tensor, mask_HW: Tensor, window: Size, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    height, width = mask_HW.shape
    down, right = max(0, window[0] - height), max(0, window[1] - width)
    if down or right:
        # [left, top, right, bottom], shared out at random so that padding has no fixed place.
        left, top = _below(right + 1, generator), _below(down + 1, generator)
        borders = [left, top, right - left, down - top]
        image_CHW = tvf.pad(image_CHW, borders, fill=[0.0])
        mask_HW = tvf.pad(mask_HW[None], borders, fill=[float(IGNORE)])[0]
        height, width = mask_HW.shape
    top = _below(height - window[0] + 1, generator)
    left = _below(width - window[1] + 1, generator)
    rows, columns = slice(top, top + window[0]), slice(left, left + window[1])
    return image_CHW[:, rows, columns], mask_HW[rows, columns]


def _rotated(image_CHW: Tensor, mask_HW: Tensor, degrees: float) -> tuple[Tensor, Tensor]:
    """About the centre; corners become black and `IGNORE`."""
    bilinear = InterpolationMode.BILINEAR
    image_CHW = tvf.rotate(image_CHW, degrees, interpolation=bilinear, fill=[0.0])
    return image_CHW, tvf.rotate(mask_HW[None], degrees, fill=[float(IGNORE)])[0]


def _below(bound: int, generator: torch.Generator) -> int:
    return int(torch.randint(bound, (), generator=generator))


def _uniform(generator: torch.Generator, low: float, high: float) -> float:
    return low + (high - low) * float(torch.rand((), generator=generator))


def _coin(generator: torch.Generator) -> bool:
    return bool(torch.rand((), generator=generator) < 0.5)

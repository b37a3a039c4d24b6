"""Whole images against their masks: one confusion matrix an image."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from kdcore.data.samples import Samples
from kdcore.losses.masking import resize_logits
from kdcore.models.compiled import uncompiled
from kdcore.models.network import SegmentationModel
from kdcore.spec.dataset import IGNORE

Confusions = npt.NDArray[np.int64]
"""(I, C, C): one matrix an image, rows truth, columns prediction."""


def evaluate(
    model: SegmentationModel,
    samples: Samples,
    *,
    device: torch.device,
    between: Callable[[], None] = lambda: None,
) -> Confusions:
    """Confusion matrices of all samples, ignored pixels left out.

    Every image is evaluated whole, at the resolution of its mask. ``between`` is called after each
    (to stop early, to report). The model is left in the mode in which it came.
    """
    was_training = model.training
    model.eval()
    confusions = []
    try:
        with uncompiled(model):
            for index in range(len(samples)):
                image_CHW, mask_HW = samples[index]
                prediction_HW = predict(model, image_CHW, device=device)
                confusions.append(confusion(prediction_HW.cpu(), mask_HW, model.classes))
                between()
    finally:
        model.train(was_training)
    return np.stack(confusions)


@torch.inference_mode()
def predict(model: SegmentationModel, image_CHW: Tensor, *, device: torch.device) -> Tensor:
    """Class ids (H, W) uint8 of one image (3, H, W) uint8."""
    logits_1CHW = model(image_CHW[None].to(device))
    size = (int(image_CHW.shape[-2]), int(image_CHW.shape[-1]))
    return resize_logits(logits_1CHW, size).argmax(dim=1)[0].to(torch.uint8)


def confusion(prediction_HW: Tensor, mask_HW: Tensor, classes: int) -> npt.NDArray[np.int64]:
    """(C, C) counts over the pixels that are not ignored."""
    valid_HW = mask_HW != IGNORE
    pairs_P = mask_HW[valid_HW].long() * classes + prediction_HW[valid_HW].long()
    counts = torch.bincount(pairs_P, minlength=classes * classes)
    return counts.reshape(classes, classes).numpy()

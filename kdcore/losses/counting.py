"""How many of what the mean of a loss is over: what weighs the parts of a batch against each other."""

import torch
from torch import Tensor

from kdcore.losses.masking import resize_labels
from kdcore.spec.dataset import IGNORE
from kdcore.spec.objective import Term


def counted(
    term: Term, labels_NHW: Tensor, grid: tuple[int, int], class_weights_C: Tensor | None = None
) -> Tensor:
    """Scalar float64: what the mean of ``term`` divides by on these labels, resized to ``grid``.

    By `BaseTerm.mean_of`: the valid pixels (with class weights the sum of their weights), the images
    with a valid pixel, or, where the value of a batch is no mean over its images, all images.
    """
    if term.mean_of == "batch":
        return torch.tensor(float(len(labels_NHW)), dtype=torch.float64, device=labels_NHW.device)
    labels_NHW = resize_labels(labels_NHW, grid)
    valid_NHW = labels_NHW != IGNORE
    if term.mean_of == "images":
        return valid_NHW.flatten(1).any(dim=1).sum().double()
    if class_weights_C is None:
        return valid_NHW.sum().double()
    weights_C = class_weights_C.to(labels_NHW.device, torch.float64)
    return (weights_C[labels_NHW.masked_fill(~valid_NHW, 0)] * valid_NHW).sum()

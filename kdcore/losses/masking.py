"""Valid pixels at any resolution, and means that stay finite when there are none."""

import torch
import torch.nn.functional as F
from torch import Tensor

from kdcore.spec.dataset import IGNORE


def valid_at(labels_NHW: Tensor, size: tuple[int, int], *, ignore_index: int = IGNORE) -> Tensor:
    """Which pixels count, (N, h, w) bool at ``size``: labels nearest-resized, ignored ones left out."""
    return resize_labels(labels_NHW, size) != ignore_index


def resize_labels(labels_NHW: Tensor, size: tuple[int, int]) -> Tensor:
    """Labels at ``size`` by nearest neighbour, (N, h, w)."""
    if tuple(labels_NHW.shape[-2:]) == size:
        return labels_NHW
    resized = F.interpolate(labels_NHW[:, None].float(), size=size, mode="nearest-exact")
    return resized[:, 0].to(labels_NHW.dtype)


def align(student_NCHW: Tensor, teacher_NCHW: Tensor) -> tuple[Tensor, Tensor]:
    """Both at the smaller of the two grids (bilinear, align_corners=False), in float32 or better.

    The teacher comes back without its graph: no loss has a gradient for it.
    """
    size = min(spatial(student_NCHW), spatial(teacher_NCHW))
    return _at(student_NCHW, size), _at(teacher_NCHW.detach(), size)


def resize_logits(logits_NCHW: Tensor, size: tuple[int, int]) -> Tensor:
    """Logits at ``size``, bilinear with align_corners=False, in float32 or better."""
    return _at(logits_NCHW, size)


def pixels(values_NCHW: Tensor, valid_NHW: Tensor) -> Tensor:
    """The channels of the valid pixels, (P, C)."""
    return values_NCHW.movedim(1, -1)[valid_NHW]


def labelled_pixels(
    logits_NCHW: Tensor, labels_NHW: Tensor, ignore_index: int
) -> tuple[Tensor, Tensor]:
    """Logits at the labels' size and labels of the valid pixels, (P, C) and (P,)."""
    valid_NHW = labels_NHW != ignore_index
    return pixels(resize_logits(logits_NCHW, size_of(labels_NHW)), valid_NHW), labels_NHW[valid_NHW]


def masked_mean(values: Tensor, *, like: Tensor) -> Tensor:
    """Mean of ``values``; of no values at all exactly 0, still connected to ``like``'s graph."""
    return values.mean() if values.numel() else zero(like)


def zero(like: Tensor) -> Tensor:
    """A scalar 0 through which backward reaches ``like`` with zero gradients, whatever it holds."""
    return like[:0].sum()


def wide(values: Tensor) -> Tensor:
    """float32 under autocast's half types; float32 and float64 stay what they are."""
    return values if values.dtype in (torch.float32, torch.float64) else values.float()


def spatial(values_NCHW: Tensor) -> tuple[int, int]:
    return int(values_NCHW.shape[-2]), int(values_NCHW.shape[-1])


def size_of(labels_NHW: Tensor) -> tuple[int, int]:
    return int(labels_NHW.shape[-2]), int(labels_NHW.shape[-1])


def _at(values_NCHW: Tensor, size: tuple[int, int]) -> Tensor:
    values_NCHW = wide(values_NCHW)
    if spatial(values_NCHW) == size:
        return values_NCHW
    return F.interpolate(values_NCHW, size=size, mode="bilinear", align_corners=False)

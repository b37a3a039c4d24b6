"""Losses that look at the borders between classes."""

import torch
import torch.nn.functional as F
from torch import Tensor

from kdcore.losses.channel import cwd
from kdcore.losses.masking import resize_labels, resize_logits, size_of, spatial, zero
from kdcore.losses.response import kd
from kdcore.spec.dataset import IGNORE


def boundary(
    student_NCHW: Tensor,
    teacher_NCHW: Tensor,
    labels_NHW: Tensor,
    *,
    temperature: float = 1.0,
    band: int = 3,
    alpha: float = 1.0,
    beta: float = 1.0,
    ignore_index: int = IGNORE,
) -> Tensor:
    """α · `kd` over the pixels near a border of the labels + β · `cwd` over all the other ones.

    Near: another class within ``band`` pixels of the logits' grid, in a square; where a label is
    ignored there is no border. Source: the idea of Liu et al. (BPKD), arXiv:2306.08075, which treats
    edges and bodies apart; the band of 3 to 5 pixels is METHODS'. Weights and τ = 1 are neutral, not
    tuned.
    """
    labels_NHW = resize_labels(labels_NHW, min(spatial(student_NCHW), spatial(teacher_NCHW)))
    near_NHW = _near_border(labels_NHW, band, ignore_index)
    ignored = torch.full_like(labels_NHW, ignore_index)
    edge = kd(
        student_NCHW,
        teacher_NCHW,
        torch.where(near_NHW, labels_NHW, ignored),
        temperature=temperature,
        ignore_index=ignore_index,
    )
    body = cwd(
        student_NCHW,
        teacher_NCHW,
        torch.where(near_NHW, ignored, labels_NHW),
        temperature=temperature,
        ignore_index=ignore_index,
    )
    return alpha * edge + beta * body


def boundary_label(
    logits_NCHW: Tensor,
    labels_NHW: Tensor,
    *,
    width: int = 1,
    tolerance: int = 2,
    ignore_index: int = IGNORE,
) -> Tensor:
    """1 - mean boundary F1 over the images and classes that have a boundary in the labels.

    The boundary of a map m in [0, 1] (softmax or one-hot labels) is maxpool(1 - m) - (1 - m), its
    pixels within ``width`` of the outside; precision and recall count boundaries that lie within
    ``tolerance``. Ignored pixels are outside of the picture and border on nothing.
    Source: Bokhovkin, Burnaev, arXiv:1905.07852, its L_BF1 with θ0 = 2·width + 1 = 3 as there;
    θ = 2·tolerance + 1 depends on the data, and 5 is our choice.
    """
    logits_NCHW = resize_logits(logits_NCHW, size_of(labels_NHW))
    valid_N1HW = (labels_NHW != ignore_index)[:, None]
    known_NHW = labels_NHW.masked_fill(~valid_N1HW[:, 0], 0)
    truth_NCHW = F.one_hot(known_NHW, logits_NCHW.shape[1]).movedim(-1, 1).to(logits_NCHW)
    truth_NCHW = _boundary(truth_NCHW, valid_N1HW, width)
    guess_NCHW = _boundary(logits_NCHW.softmax(dim=1), valid_N1HW, width)
    present_NC = truth_NCHW.sum(dim=(2, 3)) > 0
    if not bool(present_NC.any()):
        return zero(logits_NCHW)
    precision_NC = _share(guess_NCHW, _largest(truth_NCHW, valid_N1HW, tolerance))
    recall_NC = _share(truth_NCHW, _largest(guess_NCHW, valid_N1HW, tolerance))
    f1_NC = 2 * precision_NC * recall_NC / (precision_NC + recall_NC).clamp(min=_TINY)
    return 1 - f1_NC[present_NC].mean()


_TINY = 1e-12


def _near_border(labels_NHW: Tensor, band: int, ignore_index: int) -> Tensor:
    """Valid pixels with a valid pixel of another class within ``band``, (N, H, W) bool."""
    valid_N1HW = (labels_NHW != ignore_index)[:, None]
    own_N1HW = labels_NHW[:, None].float()
    highest_N1HW = _largest(own_N1HW, valid_N1HW, band)
    lowest_N1HW = -_largest(-own_N1HW, valid_N1HW, band)
    return ((highest_N1HW != lowest_N1HW) & valid_N1HW)[:, 0]


def _boundary(map_NCHW: Tensor, valid_N1HW: Tensor, width: int) -> Tensor:
    outside_NCHW = 1 - map_NCHW
    return (_largest(outside_NCHW, valid_N1HW, width) - outside_NCHW).masked_fill(~valid_N1HW, 0)


def _largest(map_NCHW: Tensor, valid_N1HW: Tensor, reach: int) -> Tensor:
    """The largest value among the valid pixels within ``reach``, at every valid pixel."""
    lowest = torch.finfo(map_NCHW.dtype).min
    masked_NCHW = map_NCHW.masked_fill(~valid_N1HW, lowest)
    pooled_NCHW = F.max_pool2d(masked_NCHW, 2 * reach + 1, stride=1, padding=reach)
    return pooled_NCHW.masked_fill(~valid_N1HW, 0)


def _share(of_NCHW: Tensor, near_NCHW: Tensor) -> Tensor:
    """Share of the one boundary that the other covers, (N, C)."""
    total_NC = of_NCHW.sum(dim=(2, 3))
    return (of_NCHW * near_NCHW).sum(dim=(2, 3)) / total_NC.clamp(min=_TINY)

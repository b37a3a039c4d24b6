"""MGD, and the convolutions that terms own: trained beside the student and never part of it."""

import torch
from torch import Tensor, nn

from kdcore.losses.masking import align, spatial, valid_at, wide, zero
from kdcore.spec.dataset import IGNORE


class Projection(nn.Conv2d):
    """A convolution that computes in float32, or in float64 when that is what comes in."""

    def forward(self, input: Tensor) -> Tensor:
        input = wide(input)
        bias = None if self.bias is None else self.bias.to(input.dtype)
        output: Tensor = self._conv_forward(input, self.weight.to(input.dtype), bias)
        return output


class Generator(nn.Module):
    """3×3, ReLU, 3×3 on ``channels``; an ignored pixel is to each of them like one outside the image."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = Projection(channels, channels, 3, padding=1)
        self.second = Projection(channels, channels, 3, padding=1)

    def forward(self, features_NCHW: Tensor, valid_NHW: Tensor) -> Tensor:
        ignored_N1HW = ~valid_NHW[:, None]
        hidden_NCHW = self.first(features_NCHW.masked_fill(ignored_N1HW, 0)).relu()
        generated_NCHW: Tensor = self.second(hidden_NCHW.masked_fill(ignored_N1HW, 0))
        return generated_NCHW


def mgd(
    student_NCHW: Tensor,
    teacher_NCHW: Tensor,
    labels_NHW: Tensor,
    *,
    generator: Generator,
    ratio: float = 0.75,
    alpha: float = 2e-5,
    ignore_index: int = IGNORE,
) -> Tensor:
    """α / N · Σ over valid pixels and channels of (generator(student, partly hidden) - teacher)².

    A share ``ratio`` of the places, drawn anew from torch's global generator, is set to 0 in all
    channels of the student. N counts the images with a valid pixel.
    Source: Yang et al., arXiv:2205.01529, its L_dis; for segmentation α = 2e-5 and 75 % hidden, as in
    the authors' code, where the sum (not the mean) is divided by N. Not 0 for equal features.
    """
    student_NCHW, teacher_NCHW = align(student_NCHW, teacher_NCHW)
    valid_NHW = valid_at(labels_NHW, spatial(student_NCHW), ignore_index=ignore_index)
    images = valid_NHW.flatten(1).any(dim=1).sum()
    if images == 0:
        return zero(student_NCHW)
    if ratio > 0:
        hidden_N1HW = torch.rand(valid_NHW[:, None].shape, device=student_NCHW.device) < ratio
        student_NCHW = student_NCHW.masked_fill(hidden_N1HW, 0)
    difference_NCHW = generator(student_NCHW, valid_NHW) - teacher_NCHW
    squares: Tensor = difference_NCHW.masked_fill(~valid_NHW[:, None], 0).square().sum()
    return alpha * squares / images

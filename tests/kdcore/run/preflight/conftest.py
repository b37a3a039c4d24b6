"""Warnings in a list, and networks of one's own making."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from kdcore.models.network import SegmentationModel
from kdcore.spec.model import ModelSpec
from tests.shapes import STUDENT

MakeModel = Callable[..., SegmentationModel]


class Warnings(list[tuple[str, str]]):
    def __call__(self, code: str, message: str) -> None:
        self.append((code, message))

    @property
    def codes(self) -> list[str]:
        return [code for code, _ in self]


@pytest.fixture
def warn() -> Warnings:
    return Warnings()


class _Encoder(nn.Module):
    """One map of a stride, after ``padding`` pixels around the image; sides must divide by ``only``."""

    def __init__(self, stride: int, padding: int, only: int) -> None:
        super().__init__()
        self.only = only
        self.convolution = nn.Conv2d(3, 4, stride, stride, padding)

    def forward(self, images_NCHW: Tensor) -> list[Tensor]:
        assert images_NCHW.shape[-1] % self.only == 0, f"not divisible by {self.only}"
        return [self.convolution(images_NCHW)]


class _Net(nn.Module):
    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = nn.Conv2d(4, 3, 1)

    def forward(self, images_NCHW: Tensor) -> Tensor:
        logits_NCHW: Tensor = self.head(self.encoder(images_NCHW)[0])
        return logits_NCHW


@pytest.fixture
def make_model() -> MakeModel:
    def make(*, stride: int = 8, padding: int = 0, only: int = 1) -> SegmentationModel:
        torch.manual_seed(0)
        net = _Net(_Encoder(stride, padding, only))
        return SegmentationModel(net, ModelSpec.model_validate(STUDENT), 3)

    return make

"""One wrapper around every network: uint8 or 0..1 images in, logits at the native stride out."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdcore.models.smp import build_smp
from kdcore.spec.model import ModelSpec

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""ImageNet's; every encoder that the registry offers was trained with them."""
STRIDE_MAX = 32


class SegmentationModel(nn.Module):
    """A network with its normalisation inside, so that teacher and student share one image tensor.

    ``net`` maps normalised images to logits and has ``net.encoder``, whose output is a list of
    feature maps. Only ``net`` has state; what is saved is ``net.state_dict()``.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, net: nn.Module, spec: ModelSpec, classes: int) -> None:
        super().__init__()
        self.net = net
        self.spec = spec
        self.classes = classes
        self.register_buffer("mean", torch.tensor(MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(STD).view(1, 3, 1, 1), persistent=False)

    def forward(self, images_NCHW: Tensor) -> Tensor:
        """Logits (N, classes, H / s, W / s) at the native stride s; images RGB, uint8 or 0..1.

        Sides that are no multiple of 32 are padded by replication; logits then come at full
        resolution, (N, classes, H, W), since a crop at a stride would shift them.
        """
        height, width = images_NCHW.shape[-2:]
        if images_NCHW.dtype == torch.uint8:
            images_NCHW = images_NCHW.float() / 255
        images_NCHW = (images_NCHW - self.mean) / self.std
        right, down = padding(images_NCHW)
        if not (right or down):
            logits_NCHW: Tensor = self.net(images_NCHW)
            return logits_NCHW
        images_NCHW = F.pad(images_NCHW, (0, right, 0, down), mode="replicate")
        size = images_NCHW.shape[-2:]
        logits_NCHW = F.interpolate(
            self.net(images_NCHW), size=size, mode="bilinear", align_corners=False
        )
        return logits_NCHW[..., :height, :width]

    @property
    def encoder(self) -> nn.Module:
        encoder = self.net.encoder
        assert isinstance(encoder, nn.Module)
        return encoder

    def parameter_groups(self) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
        """Parameters of the encoder, and all others (the head)."""
        encoder = list(self.encoder.parameters())
        known = {id(parameter) for parameter in encoder}
        return encoder, [p for p in self.parameters() if id(p) not in known]


def build_model(spec: ModelSpec, classes: int, *, field: str = "model") -> SegmentationModel:
    """A network with ``classes`` output channels; random numbers come from torch's global generator.

    Raises: SpecError, naming ``field``, for an unknown encoder, option or weights file.
    """
    if spec.arch == "segformer":
        # transformers takes longer to import than torch: only who needs it waits for it.
        from kdcore.models.segformer import build_segformer

        return SegmentationModel(build_segformer(spec, classes, field), spec, classes)
    return SegmentationModel(build_smp(spec, classes, field), spec, classes)


def padding(images_NHW: Tensor) -> tuple[int, int]:
    """Columns and rows that `SegmentationModel` adds at the right and at the bottom."""
    return -images_NHW.shape[-1] % STRIDE_MAX, -images_NHW.shape[-2] % STRIDE_MAX


class Features:
    """Feature maps of the last forward pass, by stride."""

    def __init__(self) -> None:
        self.by_stride: dict[int, Tensor] = {}

    def record(self, width: int, maps: list[Tensor]) -> None:
        self.by_stride = {
            round(width / feature.shape[-1]): feature for feature in maps if feature.shape[1]
        }


@contextmanager
def tapped(model: SegmentationModel) -> Iterator[Features]:
    """While open, every forward pass of ``model`` leaves its encoder's features in what is yielded."""
    features = Features()

    def hook(_: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        features.record(int(inputs[0].shape[-1]), list(output))

    handle = model.encoder.register_forward_hook(hook)
    try:
        yield features
    finally:
        handle.remove()

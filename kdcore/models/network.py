"""One wrapper around every network: uint8 or 0..1 images in, logits at the native stride out."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdcore.models.registry import build_net
from kdcore.spec.model import ModelSpec

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""ImageNet's; every encoder that the registry offers was trained with them."""
STRIDE_MAX = 32
STRIDE = "stride"
PROBE_SIDES = (64, 224)
"""Of images that tell how a network is built; windows and patches of 7 and 14 need the second."""


class SegmentationModel(nn.Module):
    """A network with its normalisation inside, so that teacher and student share one image tensor.

    ``net`` maps normalised images to logits and has ``net.encoder``, whose output is a list of
    feature maps, and may have ``net.stage_names``, their names. Only ``net`` has state; what is
    saved is ``net.state_dict()``.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, net: nn.Module, spec: ModelSpec, classes: int) -> None:
        super().__init__()
        self.net = net
        self.spec = spec
        self.classes = classes
        self.memory_format = torch.contiguous_format
        self.in_bf16 = False
        """Whether `autocast` is on though the caller computes in float32."""
        self.register_buffer("mean", torch.tensor(MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(STD).view(1, 3, 1, 1), persistent=False)

    def forward(self, images_NCHW: Tensor) -> Tensor:
        """Logits (N, classes, H / s, W / s) at the native stride s; images RGB, uint8 or 0..1.

        Sides that are no multiple of 32 are padded by replication; logits then come at full
        resolution, (N, classes, H, W), since a crop at a stride would shift them.
        """
        height, width = images_NCHW.shape[-2:]
        images_NCHW = images_NCHW.contiguous(memory_format=self.memory_format)
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

    def lay_out(self, memory_format: torch.memory_format) -> None:
        """Keep weights, and from here on images and maps, in this order of memory."""
        self.memory_format = memory_format
        self.net.to(memory_format=memory_format)

    def autocast(self) -> torch.autocast:
        """In bfloat16 if the network is ``in_bf16`` or the caller computes so."""
        device = self.mean.device.type
        half = self.in_bf16 or torch.is_autocast_enabled(device)
        return torch.autocast(device, torch.bfloat16, enabled=half)

    def parameter_groups(self) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
        """Parameters of the encoder, and all others (the head)."""
        encoder = list(self.encoder.parameters())
        known = {id(parameter) for parameter in encoder}
        return encoder, [p for p in self.parameters() if id(p) not in known]


def build_model(spec: ModelSpec, classes: int, *, field: str = "model") -> SegmentationModel:
    """A network with ``classes`` output channels; random numbers come from torch's global generator.

    Raises: SpecError, naming ``field``, for an unknown encoder, option or weights file.
    """
    return SegmentationModel(build_net(spec, classes, field), spec, classes)


def padding(images_NHW: Tensor) -> tuple[int, int]:
    """Columns and rows that `SegmentationModel` adds at the right and at the bottom."""
    return -images_NHW.shape[-1] % STRIDE_MAX, -images_NHW.shape[-2] % STRIDE_MAX


class Features:
    """Feature maps of the last forward pass.

    ``stages`` has each map by its stage's name (`layer2`) and, as `stride8`, the deepest map of
    each stride; ``by_stride`` has the latter by number.
    """

    def __init__(self) -> None:
        self.by_stride: dict[int, Tensor] = {}
        self.stages: dict[str, Tensor] = {}

    def record(self, width: int, maps: Mapping[str, Tensor]) -> None:
        """Raises nothing; maps without channels, which some encoders return, are left out."""
        named = {name: feature for name, feature in maps.items() if feature.shape[1]}
        self.by_stride = {round(width / feature.shape[-1]): feature for feature in named.values()}
        by_name = {f"{STRIDE}{stride}": feature for stride, feature in self.by_stride.items()}
        self.stages = {**named, **by_name}


@contextmanager
def tapped(model: SegmentationModel) -> Iterator[Features]:
    """While open, every forward pass of ``model`` leaves its encoder's features in what is yielded."""
    features = Features()

    def hook(_: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        features.record(int(inputs[0].shape[-1]), _named(model.net, _maps(output)))

    handle = model.encoder.register_forward_hook(hook)
    try:
        yield features
    finally:
        handle.remove()


def _maps(output: Any) -> list[Tensor]:
    """The maps in what an encoder returns: alone, beside a ViT's tokens, or in transformers' record."""
    maps = getattr(output, "feature_maps", output)
    return list(maps[0] if isinstance(maps[0], list | tuple) else maps)


def _named(net: nn.Module, maps: Sequence[Tensor]) -> dict[str, Tensor]:
    """By the network's own names, or `stage0`, `stage1`, ... (smp's `stage0` is the image itself)."""
    names = getattr(net, "stage_names", None) or [f"stage{index}" for index in range(len(maps))]
    return dict(zip(names, maps, strict=True))

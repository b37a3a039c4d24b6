"""Networks as their libraries publish them, at the weights of kdcore's; without kdcore's code."""

import copy
from collections.abc import Sequence

import segmentation_models_pytorch as smp
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import SegformerConfig, SegformerForSemanticSegmentation

from kdcore.models.network import SegmentationModel

_OF_SEGFORMER = "segformer."


def published(model: SegmentationModel) -> nn.Module:
    """(N, 3, H, W) normalised -> logits at the native stride; the same weights and mode."""
    state = model.net.state_dict()
    if model.spec.arch == "segformer":
        config = model.net.get_submodule("encoder.segformer").config
        assert isinstance(config, SegformerConfig), "what transformers builds from"
        net: nn.Module = Segformer(SegformerForSemanticSegmentation(copy.deepcopy(config)))
        state = {f"net.{name.removeprefix('encoder.')}": value for name, value in state.items()}
    else:
        options = {
            key: list(value) if isinstance(value, tuple) else value
            for key, value in model.spec.options.items()
        }
        net = smp.create_model(
            model.spec.arch, encoder_name=model.spec.encoder, encoder_weights=None,
            in_channels=3, classes=model.classes, **options,
        )  # fmt: skip
    net.load_state_dict(state)
    return net.train(model.training)


def named_gradients(net: nn.Module) -> dict[str, Tensor]:
    """By the names that the parameters have in kdcore."""
    inner = net.get_submodule("net") if isinstance(net, Segformer) else net
    gradients = {}
    for name, parameter in inner.named_parameters():
        if parameter.grad is not None:
            renamed = f"encoder.{name}" if name.startswith(_OF_SEGFORMER) else name
            gradients[renamed] = parameter.grad
    return gradients


class Segformer(nn.Module):
    """transformers' network, whose output is a record."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, images_NCHW: Tensor) -> Tensor:
        logits_NCHW: Tensor = self.net(images_NCHW).logits
        return logits_NCHW


class Together(nn.Module):
    """Mean logits of several networks, at the smallest of their grids."""

    def __init__(self, nets: Sequence[nn.Module]) -> None:
        super().__init__()
        self.nets = nn.ModuleList(nets)

    def forward(self, images_NCHW: Tensor) -> Tensor:
        logits = [net(images_NCHW).float() for net in self.nets]
        size = min(tuple(one.shape[-2:]) for one in logits)
        return torch.stack([at_size(one, size) for one in logits]).mean(0)


class AtImageSize(nn.Module):
    """Logits resized to the image; ``native`` gives them as they come."""

    def __init__(self, native: nn.Module) -> None:
        super().__init__()
        self.native = native

    def forward(self, images_NCHW: Tensor) -> Tensor:
        return at_size(self.native(images_NCHW), tuple(images_NCHW.shape[-2:]))


def at_size(logits_NCHW: Tensor, size: tuple[int, ...]) -> Tensor:
    if tuple(logits_NCHW.shape[-2:]) == size:
        return logits_NCHW
    return F.interpolate(logits_NCHW, size=size, mode="bilinear", align_corners=False)

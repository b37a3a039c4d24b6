"""torchvision's backbones as lists of feature maps, under the keys of their ImageNet files."""

from collections.abc import Mapping

from torch import Tensor, nn


class Layers(nn.Module):
    """Named layers in a row (`conv1`, `layer1`, ...); the maps of those in ``kept`` are returned."""

    def __init__(self, layers: Mapping[str, nn.Module], kept: tuple[str, ...]) -> None:
        super().__init__()
        for name, layer in layers.items():
            self.add_module(name, layer)
        self.kept = kept

    def forward(self, images_NCHW: Tensor) -> list[Tensor]:
        maps = []
        for name, layer in self.named_children():
            images_NCHW = layer(images_NCHW)
            if name in self.kept:
                maps.append(images_NCHW)
        return maps


class Features(nn.Module):
    """The blocks `features.0`, `features.1`, ...; the maps after those in ``kept`` are returned."""

    def __init__(
        self, blocks: Mapping[str, nn.Module] | nn.Sequential, kept: tuple[int, ...]
    ) -> None:
        super().__init__()
        ordered = blocks if isinstance(blocks, nn.Sequential) else blocks.values()
        self.features = nn.Sequential(*ordered)
        self.kept = kept

    def forward(self, images_NCHW: Tensor) -> list[Tensor]:
        maps = []
        for index, block in enumerate(self.features):
            images_NCHW = block(images_NCHW)
            if index in self.kept:
                maps.append(images_NCHW)
        return maps

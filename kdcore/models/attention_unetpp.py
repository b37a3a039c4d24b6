"""UNet++ with attention: within the deepest features, and from every skip to the decoder below it.

The CO2 system's teacher. UNet++: Zhou et al., arXiv:1807.10165; the attention's output is added
through a learned factor that starts at 0, as in arXiv:1805.08318, eq. 4, so that training starts
from the plain network.
"""

from collections.abc import Sequence
from typing import Any

import segmentation_models_pytorch as smp
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdcore.models.choices import construct
from kdcore.models.smp import check_encoder, download
from kdcore.models.weights import downloading
from kdcore.spec.model import ModelSpec

_DEPTH = 5
_HEAD_WIDTH = 32


def build_attention_unetpp(spec: ModelSpec, classes: int, field: str) -> nn.Module:
    """On smp's encoders of five stages. Raises: SpecError."""
    check_encoder(spec, field)
    with downloading(spec, field):
        encoder = smp.encoders.get_encoder(spec.encoder, depth=_DEPTH, weights=download(spec))
    return construct(AttentionUnetPlusPlus, spec, field, classes=classes, encoder=encoder)


class AttentionUnetPlusPlus(nn.Module):
    """Logits at stride 1. ``decoder_channels``: widths at strides 16, 8, 4, 2, 1.

    Node (level, column) takes all nodes of its level to its left and the one below left; column 0
    is the encoder. The last node of a level is the decoder's; there the encoder's map asks the node
    below. ``key_side``: maps that are asked are pooled to at most about this many pixels a side.
    """

    def __init__(
        self,
        *,
        classes: int,
        encoder: Any,
        decoder_channels: Sequence[int] = (256, 128, 64, 32, 16),
        attention_channels: int = 64,
        key_side: int = 16,
    ) -> None:
        super().__init__()
        self.encoder: nn.Module = encoder
        channels = [int(c) for c in encoder.out_channels[1:]]
        widths = [*reversed(decoder_channels[:-1])]
        if len(widths) != len(channels) - 1:
            raise ValueError(f"decoder_channels has {len(decoder_channels)} numbers, not {_DEPTH}")
        self.bottleneck = Attention(channels[-1], channels[-1], attention_channels, key_side)
        below = [*widths[1:], channels[-1]]
        self.skips = nn.ModuleList(
            Attention(channels[level], below[level], attention_channels, key_side)
            for level in range(len(widths))
        )
        self.nodes = nn.ModuleDict(
            {
                f"{level}-{column}": _block(
                    channels[level]
                    + (column - 1) * widths[level]
                    + (channels[level + 1] if column == 1 else widths[level + 1]),
                    widths[level],
                )
                for level in range(len(widths))
                for column in range(1, len(channels) - level)
            }
        )
        self.last = _block(widths[0], decoder_channels[-1])
        self.classifier = nn.Conv2d(decoder_channels[-1], classes, 3, padding=1)

    def forward(self, images_NCHW: Tensor) -> Tensor:
        maps = list(self.encoder(images_NCHW)[1:])
        maps[-1] = self.bottleneck(maps[-1], maps[-1])
        rows = [[feature_NCHW] for feature_NCHW in maps]
        for column in range(1, len(maps)):
            for level in range(len(maps) - column):
                rows[level].append(self._node(level, column, rows))
        logits: Tensor = self.classifier(self.last(_doubled(rows[0][-1])))
        return logits

    def _node(self, level: int, column: int, rows: Sequence[Sequence[Tensor]]) -> Tensor:
        skip_NCHW, *between = rows[level]
        below_NCHW = rows[level + 1][column - 1]
        if level + column == len(rows) - 1:
            skip_NCHW = self.skips[level](skip_NCHW, below_NCHW)
        gathered_NCHW = torch.cat([_doubled(below_NCHW), skip_NCHW, *between], dim=1)
        node: Tensor = self.nodes[f"{level}-{column}"](gathered_NCHW)
        return node


class Attention(nn.Module):
    """Every pixel of a map asks the pixels of another (or the same) and adds what it is told."""

    def __init__(self, asking: int, asked: int, width: int, key_side: int) -> None:
        super().__init__()
        if width % _HEAD_WIDTH:
            raise ValueError(f"attention_channels is a multiple of {_HEAD_WIDTH}, not {width}")
        self.key_side = key_side
        self.heads = width // _HEAD_WIDTH
        self.query = nn.Sequential(nn.GroupNorm(1, asking), nn.Conv2d(asking, width, 1))
        self.key_value = nn.Sequential(nn.GroupNorm(1, asked), nn.Conv2d(asked, 2 * width, 1))
        self.out = nn.Conv2d(width, asking, 1)
        self.factor = nn.Parameter(torch.zeros(()))

    def forward(self, asking_NCHW: Tensor, asked_NCHW: Tensor) -> Tensor:
        n, _, height, width = asking_NCHW.shape
        key_NCHW, value_NCHW = self.key_value(self._pooled(asked_NCHW)).chunk(2, dim=1)
        told_NHLD = F.scaled_dot_product_attention(
            self._tokens(self.query(asking_NCHW)), self._tokens(key_NCHW), self._tokens(value_NCHW)
        )
        told_NCHW = told_NHLD.transpose(2, 3).reshape(n, -1, height, width)
        answered: Tensor = asking_NCHW + self.factor * self.out(told_NCHW)
        return answered

    def _pooled(self, x_NCHW: Tensor) -> Tensor:
        window = -(-max(x_NCHW.shape[-2:]) // self.key_side)
        return F.avg_pool2d(x_NCHW, window, ceil_mode=True) if window > 1 else x_NCHW

    def _tokens(self, x_NCHW: Tensor) -> Tensor:
        """(N, heads, pixels, width of a head)"""
        n = x_NCHW.shape[0]
        return x_NCHW.reshape(n, self.heads, _HEAD_WIDTH, -1).transpose(2, 3)


def _block(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(_conv(inputs, outputs), _conv(outputs, outputs))


def _conv(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


def _doubled(x_NCHW: Tensor) -> Tensor:
    return F.interpolate(x_NCHW, scale_factor=2.0, mode="nearest")

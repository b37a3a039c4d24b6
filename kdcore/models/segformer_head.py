"""SegFormer's decode head with its sums in another order: the same function for less work.

Published (Xie et al., arXiv:2105.15203, section 3.2): every stage is projected to D channels, brought
to stride 4, and the concatenation of all four is fused by a 1x1 convolution, which at stride 4 has 4·D
inputs. A 1x1 convolution acts on channels and bilinear resizing on pixels, its weights summing to one,
so the two commute: ``fuse(cat(resize(project(x_i)))) = Σ resize(F_i P_i x_i + F_i b_i)`` with F_i the
fuse's columns for stage i. The products F_i P_i are made of weights alone, D x C_i numbers.
"""

from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.models.segformer.modeling_segformer import SegformerDecodeHead


class SegformerHead(nn.Module):
    """A `SegformerDecodeHead`'s own modules under their own names, so that state dicts are its."""

    def __init__(self, published: SegformerDecodeHead) -> None:
        super().__init__()
        self.linear_projections = published.linear_projections
        self.linear_fuse = published.linear_fuse
        self.batch_norm = published.batch_norm
        self.activation = published.activation
        self.dropout = published.dropout
        self.classifier = published.classifier

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Logits (N, C, H, W) from the stages' maps (N, C_i, H_i, W_i), of which the first is H x W."""
        weights, bias_D = self.stage_weights()
        fused_NDHW = _fused(maps, weights, bias_D)
        hidden_NDHW = self.dropout(self.activation(self.batch_norm(fused_NDHW)))
        logits_NCHW: Tensor = self.classifier(hidden_NDHW)
        return logits_NCHW

    def stage_weights(self) -> tuple[list[Tensor], Tensor]:
        """F_i P_i (D, C_i, 1, 1) of each stage, and Σ F_i b_i (D), with their graph.

        In float32 under autocast as well: a product rounded twice would be off by more than the
        activations are.
        """
        fuse_D4D = self.linear_fuse.weight.flatten(1)
        with torch.autocast(fuse_D4D.device.type, enabled=False):
            # transformers concatenates the stages from the last to the first.
            columns = fuse_D4D.chunk(len(self.linear_projections), dim=1)[::-1]
            linears = [cast(nn.Linear, each.proj) for each in self.linear_projections]
            pairs = list(zip(columns, linears, strict=True))
            weights = [(fuse_DD @ linear.weight)[..., None, None] for fuse_DD, linear in pairs]
            return weights, torch.stack([fuse_DD @ linear.bias for fuse_DD, linear in pairs]).sum(0)

    @torch.no_grad()
    def folded(self) -> "FoldedSegformerHead":
        """The same in eval mode, with batch norm in the weights; shares the classifier."""
        norm = self.batch_norm
        assert not norm.training, "statistics of a batch cannot be folded"
        assert norm.running_mean is not None
        assert norm.running_var is not None
        weights, bias_D = self.stage_weights()
        scale_D = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
        return FoldedSegformerHead(
            [weight * scale_D[:, None, None, None] for weight in weights],
            (bias_D - norm.running_mean) * scale_D + norm.bias,
            self.activation,
            self.classifier,
        )


class FoldedSegformerHead(nn.Module):
    """For inference: one 1x1 convolution a stage, their sum, the activation and the classifier."""

    def __init__(
        self,
        weights: Sequence[Tensor],
        bias_D: Tensor,
        activation: nn.Module,
        classifier: nn.Module,
    ) -> None:
        super().__init__()
        self.weights = nn.ParameterList(map(nn.Parameter, weights))
        self.bias = nn.Parameter(bias_D)
        self.activation = activation
        self.classifier = classifier

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """As `SegformerHead.forward`."""
        fused_NDHW = _fused(maps, list(self.weights), self.bias)
        logits_NCHW: Tensor = self.classifier(self.activation(fused_NDHW))
        return logits_NCHW


def _fused(maps: Sequence[Tensor], weights: Sequence[Tensor], bias_D: Tensor) -> Tensor:
    """Σ resize(W_i x_i) + b, (N, D, H, W), channels last: so resizing is 2 to 3 times as fast."""
    size = maps[0].shape[-2:]
    first, *others = (each.contiguous(memory_format=torch.channels_last) for each in maps)
    fused_NDHW = F.conv2d(first, weights[0], bias_D)
    for map_NCHW, weight in zip(others, weights[1:], strict=True):
        fused_NDHW += F.interpolate(
            F.conv2d(map_NCHW, weight), size=size, mode="bilinear", align_corners=False
        )
    return fused_NDHW

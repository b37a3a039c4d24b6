"""Teachers of other classes: their logits as the dataset's, and who knows which of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from kdcore.models.network import SegmentationModel
from kdcore.spec.class_map import Sources
from kdcore.spec.dataset import IGNORE

UNKNOWN = -1e4
"""Logit of a class that a model does not know: never the largest, and finite in every precision."""


def with_classes(model: SegmentationModel, sources: Sources) -> SegmentationModel:
    """``model`` with the classes that ``sources`` makes of its own, in their order.

    The softmax of its logits is that of the model's, renormalised over the classes kept; where
    several make up one their probabilities are added (log-sum-exp of the logits). A class that it
    does not know has the logit `UNKNOWN`. Weights are shared, not copied.
    """
    if sources == tuple((index,) for index in range(model.classes)):
        return model
    net = _Renamed(model.net, sources)
    renamed = SegmentationModel(net, model.spec, len(sources)).to(model.mean.device)
    return renamed.train(model.training)


class _Renamed(nn.Module):
    def __init__(self, net: nn.Module, sources: Sources) -> None:
        super().__init__()
        self.net = net
        self._first = [parts[0] if parts else 0 for parts in sources]
        self._merged = {index: parts for index, parts in enumerate(sources) if len(parts) > 1}
        self._unknown = [index for index, parts in enumerate(sources) if not parts]
        self.stage_names: Any = getattr(net, "stage_names", None)

    @property
    def encoder(self) -> Any:
        return self.net.encoder

    def forward(self, images_NCHW: Tensor) -> Tensor:
        logits_NCHW: Tensor = self.net(images_NCHW)
        renamed_NCHW = logits_NCHW[:, self._first]
        for index, parts in self._merged.items():
            merged_NHW = logits_NCHW[:, list(parts)].float().logsumexp(dim=1)
            renamed_NCHW[:, index] = merged_NHW.to(renamed_NCHW)
        renamed_NCHW[:, self._unknown] = UNKNOWN
        return renamed_NCHW


@dataclass(frozen=True)
class Group:
    """Teachers that know the same classes: they are combined, and the student is compared on these.

    ``teachers`` are indices; ``share`` is that of their weights in the sum of all.
    """

    known: tuple[int, ...]
    classes: int
    teachers: tuple[int, ...]
    share: float

    def logits(self, logits_NCHW: Tensor) -> Tensor:
        """The known classes alone, (N, known, H, W): a softmax over them is renormalised."""
        return logits_NCHW if self._all else logits_NCHW[:, list(self.known)]

    def labels(self, labels_NHW: Tensor, labelled: int) -> Tensor:
        """Labels as positions among the known classes; those of unknown classes are ignored.

        Images from ``labelled`` on have no mask: what is not ignored there stays in, as class 0.
        """
        if self._all:
            return labels_NHW
        table = torch.full((IGNORE + 1,), IGNORE, dtype=labels_NHW.dtype)
        table[list(self.known)] = torch.arange(len(self.known), dtype=labels_NHW.dtype)
        mapped_NHW = table.to(labels_NHW.device)[labels_NHW]
        without_mask_NHW = labels_NHW[labelled:]
        mapped_NHW[labelled:] = without_mask_NHW.masked_fill(without_mask_NHW != IGNORE, 0)
        return mapped_NHW

    @property
    def _all(self) -> bool:
        return len(self.known) == self.classes


def grouped(
    known: Sequence[tuple[int, ...]], weights: Sequence[float], *, classes: int
) -> tuple[Group, ...]:
    """Teachers by what they know, in the order in which each kind of knowledge first appears."""
    total = sum(weights)
    groups = []
    for what in dict.fromkeys(known):
        members = tuple(index for index, one in enumerate(known) if one == what)
        share = sum(weights[index] for index in members) / total
        groups.append(Group(what, classes, members, share))
    return tuple(groups)

"""Whether losses and gradients are numbers, looked at without stopping the device at every step."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from kdcore.distill.objective import Total
from kdcore.errors import NonFiniteLoss
from kdcore.ranks import ALONE, Ranks

_FIELD = "train.optimizer.lr"


@dataclass(frozen=True)
class _Noted:
    step: int
    loss: Tensor
    norm: Tensor
    terms: Mapping[str, Tensor]


class FiniteCheck:
    """Keeps losses and gradient norms where they are and reads ``every`` of them at once.

    With ``every`` = 1 a step is refused before the optimizer takes it. Otherwise up to ``every`` - 1
    steps are made on what may be no number: the weights are right only after `look` was silent, so
    nothing may be evaluated, saved or reported before it; going back to a checkpoint undoes them all.
    """

    def __init__(self, every: int, ranks: Ranks = ALONE) -> None:
        self._every, self._ranks = every, ranks
        self._noted: list[_Noted] = []

    def note(self, step: int, total: Total, norm: Tensor) -> None:
        """Before the optimizer takes the step. Raises: NonFiniteLoss, see `look`."""
        self._noted.append(_Noted(step, total.loss.detach(), norm, total.terms))
        if len(self._noted) >= self._every:
            self.look()

    def look(self) -> None:
        """Raises: NonFiniteLoss on all ranks, naming the first step whose loss or gradient is no number."""
        noted, self._noted = self._noted, []
        if not noted:
            return
        # Each rank's loss is a part of the sum; the gradient is the same on all of them.
        shared = 1 / self._ranks.count
        values = [torch.stack([each.loss, each.norm * shared]) for each in noted]
        found = self._ranks.sum(torch.stack(values)).tolist()
        for each, (loss, norm) in zip(noted, found, strict=True):
            if not math.isfinite(loss):
                terms = (f"{name} {value.item():.4g}" for name, value in each.terms.items())
                raise NonFiniteLoss(
                    f"loss is {loss} at step {each.step}: {', '.join(terms)}",
                    field=_FIELD,
                    remedy="lower the learning rate or the weight of the term that grew",
                )
            # A finite loss may have gradients that are not; one step on them ruins every weight.
            if not math.isfinite(norm):
                raise NonFiniteLoss(
                    f"the gradient's norm is {norm} at step {each.step}",
                    field=_FIELD,
                    remedy="lower the learning rate, or set `train.clip_norm`",
                )

"""Several teachers as one."""

from collections.abc import Sequence

import torch
from torch import Tensor

from kdcore.losses.masking import resize_logits, spatial, wide


def ensemble(
    kind: str,
    logits: Sequence[Tensor],
    *,
    weights: Sequence[float] | None = None,
    temperature: float = 1.0,
) -> Tensor:
    """Logits (N, C, H, W) whose softmax at ``temperature`` is the ensemble's distribution.

    ``logit_mean``: weighted mean of the logits. ``prob_mean``: weighted mean of the probabilities at
    ``temperature``, given back as τ · log p. ``weights`` are normalised to sum 1; None: equal.
    Logits of different strides meet at the smallest grid.
    """
    if len(logits) == 1:
        return logits[0]
    shares = torch.tensor(weights if weights is not None else [1.0] * len(logits))
    shares = shares / shares.sum()
    size = min(spatial(one) for one in logits)
    aligned_KNCHW = torch.stack([resize_logits(wide(one), size) for one in logits])
    shares_K1111 = shares.to(aligned_KNCHW)[:, None, None, None, None]
    if kind == "logit_mean":
        return (shares_K1111 * aligned_KNCHW).sum(0)
    log_probabilities_KNCHW = (aligned_KNCHW / temperature).log_softmax(dim=2)
    return temperature * (log_probabilities_KNCHW + shares_K1111.log()).logsumexp(dim=0)

"""Class weights from how often each class occurs."""

import torch
from torch import Tensor


def class_weights(kind: str, class_pixels: tuple[int, ...], *, beta: float | None = None) -> Tensor:
    """Weights (C,) float32 from the pixel counts of the raw masks, clipped to [0.1, 10].

    ``raw_inverse``: 1 / f and ``raw_inverse_sqrt``: 1 / √f, f the share of the pixels, both scaled to
    mean 1. ``raw_effective``: (1 - β) / (1 - β^n), scaled to mean 1 (Cui et al., arXiv:1901.05555,
    proposition 1), with β = (T - 1) / T, T all pixels, unless given: neighbouring pixels are no independent
    samples, and with the paper's β = 0.9999 every class above 50,000 pixels weighs the same.
    ``raw_median``: median f / f over the classes that occur, not rescaled (Eigen, Fergus,
    arXiv:1411.4734, with f over the whole data set). A class without any pixel gets the
    largest weight of those that have some.
    """
    counts_C = torch.tensor(class_pixels, dtype=torch.float64)
    total = counts_C.sum().clamp(min=1)
    occurs_C = counts_C > 0
    smallest = counts_C[occurs_C].min() if bool(occurs_C.any()) else total
    share_C = torch.where(occurs_C, counts_C, smallest) / total
    match kind:
        case "raw_inverse":
            return _clipped(_mean_one(1 / share_C))
        case "raw_inverse_sqrt":
            return _clipped(_mean_one(1 / share_C.sqrt()))
        case "raw_effective":
            decay = 1 - 1 / total if beta is None else torch.tensor(beta, dtype=torch.float64)
            # 1 - β^n without cancellation; β = 0 (one pixel in all) gives 1 for every class.
            missing_C = -torch.expm1(share_C * total * decay.log())
            return _clipped(_mean_one(1 / missing_C))
        case "raw_median":
            median = share_C[occurs_C].quantile(0.5) if bool(occurs_C.any()) else share_C[0]
            return _clipped(median / share_C)
        case _:
            raise ValueError(f"unknown class weights: {kind}")


def _mean_one(weights_C: Tensor) -> Tensor:
    return weights_C / weights_C.mean()


def _clipped(weights_C: Tensor) -> Tensor:
    return weights_C.clamp(0.1, 10).float()

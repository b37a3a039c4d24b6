"""Optimizers, and learning rates as a pure function of the step."""

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from kdcore.models.network import SegmentationModel
from kdcore.spec.train import AdamW, TrainSpec, WarmupStableCosine

POLY_POWER = 0.9


def build_optimizer(
    model: SegmentationModel, adapters: Iterable[nn.Parameter], spec: TrainSpec
) -> torch.optim.Optimizer:
    """Groups: encoder, head and adapters (`head_lr_factor`); no decay on norms and biases.

    AdamW is fused, which takes a third of the time; see `restore_optimizer`.
    """
    encoder, head = model.parameter_groups()
    groups = []
    for parameters, factor in ((encoder, 1.0), ([*head, *adapters], spec.head_lr_factor)):
        lr = spec.optimizer.lr * factor
        for decayed in (True, False):
            chosen = [p for p in parameters if p.requires_grad and (p.ndim > 1) == decayed]
            if chosen:
                decay = spec.optimizer.weight_decay if decayed else 0.0
                groups.append({"params": chosen, "lr": lr, "base_lr": lr, "weight_decay": decay})
    if isinstance(spec.optimizer, AdamW):
        return torch.optim.AdamW(groups, betas=spec.optimizer.betas, fused=True)
    return torch.optim.SGD(
        groups, momentum=spec.optimizer.momentum, nesterov=spec.optimizer.nesterov
    )


def restore_optimizer(optimizer: torch.optim.Optimizer, saved: dict[str, Any]) -> None:
    """Load a state, its moments laid out as their parameters are.

    A fused step pairs values by their place in memory and asks no strides: moments saved beside
    parameters of another memory format would silently be those of other weights.
    """
    optimizer.load_state_dict(saved)
    for parameter, moments in optimizer.state.items():
        for name, value in moments.items():
            if isinstance(value, Tensor) and value.shape == parameter.shape:
                moments[name] = torch.empty_like(parameter).copy_(value)


def set_learning_rate(optimizer: torch.optim.Optimizer, spec: TrainSpec, step: int) -> float:
    """Set every group's rate for ``step`` (0-based); returns the factor on the base rates."""
    factor = learning_rate_factor(spec, step)
    for group in optimizer.param_groups:
        group["lr"] = group["base_lr"] * factor
    return factor


def learning_rate_factor(spec: TrainSpec, step: int) -> float:
    """Linear warm-up, then poly (1 - t)^0.9, cosine or constant; t runs from 0 to 1 after warm-up.

    `WarmupStableCosine` has its own warm-up; its last step has the end's rate.
    """
    if isinstance(spec.schedule, WarmupStableCosine):
        return _warmup_stable_cosine(spec.schedule, step / max(1, spec.steps - 1))
    if step < spec.warmup_steps:
        return (step + 1) / spec.warmup_steps
    done = (step - spec.warmup_steps) / (spec.steps - spec.warmup_steps)
    match spec.schedule:
        case "poly":
            return float((1 - done) ** POLY_POWER)
        case "cosine":
            return (1 + math.cos(math.pi * done)) / 2
        case "constant":
            return 1.0


def _warmup_stable_cosine(schedule: WarmupStableCosine, done: float) -> float:
    """``done``: share of the training, 0 to 1."""
    if done < schedule.warmup:
        return schedule.start + (1 - schedule.start) * done / schedule.warmup
    falling = (done - schedule.warmup - schedule.stable) / (1 - schedule.warmup - schedule.stable)
    return schedule.end + (1 - schedule.end) * (1 + math.cos(math.pi * max(0.0, falling))) / 2

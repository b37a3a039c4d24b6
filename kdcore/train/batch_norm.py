"""Batch norm over the whole batch of several GPUs."""

from collections.abc import Callable

import torch
from torch import nn

from kdcore.ranks import Ranks
from kdcore.spec.train import TrainSpec


def has_batch_norm(model: nn.Module) -> bool:
    return any(isinstance(each, nn.modules.batchnorm._BatchNorm) for each in model.modules())


def synchronise_batch_norm(
    model: nn.Module,
    spec: TrainSpec,
    device: torch.device,
    ranks: Ranks,
    warned: Callable[[str, str], None],
) -> None:
    """Let the layers of ``model`` see the statistics of all ranks; parameters stay the same objects."""
    if ranks.count == 1 or not spec.sync_batchnorm or not has_batch_norm(model):
        return
    if device.type == "cuda":
        nn.SyncBatchNorm.convert_sync_batchnorm(model)  # type: ignore[no-untyped-call]
    else:
        warned("batchnorm_not_synchronised", "on a CPU each process normalises over its own images")

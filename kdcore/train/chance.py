"""The random numbers of a rank: where its generators are, and where they start."""

import torch
from torch import Tensor


def start(seed: int, rank: int) -> None:
    """Other numbers on every rank but the first, whose generator goes on: each has other images."""
    if rank > 0:
        torch.manual_seed(seed * 65_537 + rank)


def state_of(device: torch.device) -> dict[str, Tensor]:
    states = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    return states


def restore(states: dict[str, Tensor], device: torch.device) -> None:
    """What the device of the checkpoint had and this one has not is left out."""
    torch.set_rng_state(states["cpu"].cpu())
    if device.type == "cuda" and "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"].cpu(), device)

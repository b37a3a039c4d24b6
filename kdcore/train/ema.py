"""Exponential moving average of a network's weights."""

import torch
from torch import Tensor, nn


class Ema:
    """Averaged copy of ``net``'s state. The decay warms up as min(decay, (1 + k) / (10 + k))."""

    def __init__(self, net: nn.Module, decay: float) -> None:
        self.decay = decay
        self.updates = 0
        self.state = {name: value.detach().clone() for name, value in net.state_dict().items()}

    @torch.no_grad()
    def update(self, net: nn.Module) -> None:
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        self.updates += 1
        for name, value in net.state_dict().items():
            mine = self.state[name]
            if mine.is_floating_point():
                mine.lerp_(value, 1 - decay)
            else:
                mine.copy_(value)

    def state_dict(self) -> dict[str, object]:
        return {"updates": self.updates, "state": self.state}

    def load_state_dict(self, saved: dict[str, object]) -> None:
        self.updates = int(saved["updates"])  # type: ignore[call-overload]
        state: dict[str, Tensor] = saved["state"]  # type: ignore[assignment]
        for name, value in state.items():
            self.state[name].copy_(value)

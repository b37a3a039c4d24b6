"""The processes of one training: which of them this is, and how they agree."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from kdcore.errors import KdError

T = TypeVar("T")


@dataclass(frozen=True)
class Ranks:
    """``rank`` of ``count``; alone (the default) every method is free of communication.

    All ranks must call the same methods in the same order.
    """

    rank: int = 0
    count: int = 1

    @property
    def first(self) -> bool:
        return self.rank == 0

    def sum(self, values: Tensor) -> Tensor:
        """The sum over the ranks, without a graph."""
        if self.count == 1:
            return values
        summed = values.detach().clone()
        dist.all_reduce(summed)
        return summed

    def any(self, here: bool) -> bool:
        """Whether it is so on any rank; agreed on the host, no GPU waits."""
        return here if self.count == 1 else bool(self.sum(torch.tensor(float(here))))

    def from_first(self, make: Callable[[], T]) -> T:
        """What ``make`` returns on the first rank, or the KdError that it raises there."""
        if self.count == 1:
            return make()
        made: list[Any] = [None, None]
        if self.first:
            try:
                made[0] = make()
            except KdError as error:
                made[1] = error
        dist.broadcast_object_list(made)
        if made[1] is not None:
            raise made[1]
        value: T = made[0]
        return value

    def gathered(self, value: T) -> list[T]:
        """The values of all ranks on the first one, in their order; its own alone on the others."""
        if self.count == 1:
            return [value]
        values: list[Any] | None = [None] * self.count if self.first else None
        dist.gather_object(value, values)
        return values if values is not None else [value]


ALONE = Ranks()

"""What a training needs of the device's memory, by parts, and whether that is there."""

from collections.abc import Iterable
from dataclasses import dataclass, fields

from torch import Tensor

from kdcore.data.samples import Samples
from kdcore.errors import OutOfMemory
from kdcore.run.preflight.parts import Parts
from kdcore.spec.train import AdamW, TrainSpec

MIB = 2**20


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes that a training will take beyond what is there already, and the batch they are for.

    ``activations`` grow with the batch, the others do not. ``copies``: averaged and best weights and
    the checkpoint that is being written. ``samples``: decoded images kept in memory. On a GPU these
    two are on the host and do not count.
    """

    batch: int
    gradients: int
    optimizer: int
    copies: int
    samples: int
    activations: int

    @property
    def total(self) -> int:
        return self.fixed + self.activations

    @property
    def fixed(self) -> int:
        return self.gradients + self.optimizer + self.copies + self.samples

    def largest_batch(self, free: int) -> int:
        """The largest batch for which ``free`` bytes are enough; 0 if there is none."""
        return max(0, (free - self.fixed) * self.batch // max(1, self.activations))

    def values(self) -> dict[str, float]:
        """For the run's metrics, in bytes."""
        parts = {f"memory/{each.name}": getattr(self, each.name) for each in fields(self)}
        del parts["memory/batch"]
        return {**parts, "memory/needed": self.total}


def estimate(parts: Parts, *, activations: int) -> MemoryEstimate:
    """``activations``: peak bytes of a step's tensors at the whole batch, without gradients."""
    trained = _bytes(
        each
        for part in (parts.model, parts.objective)
        for each in part.parameters()
        if each.requires_grad
    )
    state = _bytes(parts.model.net.state_dict().values())
    moments = _moments(parts.job.train) * trained
    weights = (1 if parts.job.train.ema is None else 2) * state
    on_host = parts.device.type == "cpu"
    kept = (parts.train, parts.val, parts.pool) if on_host else ()
    return MemoryEstimate(
        batch=parts.job.train.batch,
        gradients=trained,
        optimizer=moments,
        copies=weights + (weights + moments if on_host else 0),
        samples=sum(_kept(samples) for samples in kept),
        activations=activations,
    )


def check_memory(needed: MemoryEstimate, *, free: int | None) -> None:
    """``free``: bytes, None where unknown. Raises: OutOfMemory, with the batch that would fit."""
    if free is None or needed.total <= free:
        return
    raise too_large(needed, free)


def too_large(needed: MemoryEstimate, free: int) -> OutOfMemory:
    """The refusal; also where the estimate says that it fits and the device does not."""
    fitting = min(needed.largest_batch(free), needed.batch - 1)
    return OutOfMemory(
        f"a batch of {needed.batch} needs about {_told(needed)}; {free / MIB:,.0f} MiB are free",
        field="train.batch",
        remedy=f"a batch of {fitting} fits"
        if fitting
        else "no batch fits: a smaller `train.size` or network, or a larger device",
    )


def exhausted(needed: MemoryEstimate, lack: str) -> OutOfMemory:
    """A training that ran out of memory although the preflight had found enough."""
    return OutOfMemory(
        f"{lack}; before the first step a batch of {needed.batch} was estimated to need "
        f"{_told(needed)}, and that was free",
        field="train.batch",
        remedy="a smaller batch or crop, or a device that nobody else uses",
    )


def _told(needed: MemoryEstimate) -> str:
    parts = (f"{part.name} {getattr(needed, part.name) / MIB:,.0f}" for part in fields(needed)[1:])
    return f"{needed.total / MIB:,.0f} MiB more ({', '.join(parts)})"


def _moments(train: TrainSpec) -> int:
    """Values that the optimizer keeps for each parameter."""
    if isinstance(train.optimizer, AdamW):
        return 2
    return 1 if train.optimizer.momentum else 0


def _kept(samples: Samples | None) -> int:
    return 0 if samples is None else samples.bytes_to_keep


def _bytes(tensors: Iterable[Tensor]) -> int:
    return sum(each.numel() * each.element_size() for each in tensors)

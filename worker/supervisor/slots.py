"""What the worker has, and what of it its attempts hold."""

from dataclasses import dataclass
from threading import Lock

from kdcore import __version__
from worker.ledger.jobs import Claim, Offer
from worker.ledger.workers import Capacity
from worker.settings import WorkerSettings
from worker.supervisor.machine import gpu_ids, memory_bytes


@dataclass(frozen=True)
class Share:
    """What one attempt holds; ``gpus`` is None where the worker does not deal out GPUs."""

    claim: Claim
    gpus: tuple[str, ...] | None


class Slots:
    """A job without GPUs takes a CPU slot, one with GPUs takes those; thread-safe."""

    def __init__(self, settings: WorkerSettings) -> None:
        self._gpus = gpu_ids(settings.gpus)
        given = settings.memory_gib
        self.capacity = Capacity(
            version=__version__,
            queues=settings.queues,
            labels=settings.labels,
            cpu_slots=settings.cpu_slots,
            gpus=len(self._gpus),
            memory_bytes=memory_bytes() if given is None else round(given * (1 << 30)),
        )
        self._held: list[Share] = []
        self._lock = Lock()

    def __len__(self) -> int:
        """How many attempts there may be at once."""
        return self.capacity.cpu_slots + self.capacity.gpus

    def offer(self) -> Offer:
        """What is free."""
        with self._lock:
            held = [share.claim for share in self._held]
            memory = self.capacity.memory_bytes
            if memory is not None:
                memory -= sum(claim.memory_bytes or 0 for claim in held)
            return Offer(
                cpu_slots=self.capacity.cpu_slots - sum(claim.gpus == 0 for claim in held),
                gpus=len(self._free_gpus()),
                gpus_in_all=self.capacity.gpus,
                memory_bytes=memory,
                labels=self.capacity.labels,
            )

    def take(self, claim: Claim) -> Share:
        """``claim`` was made with the last `offer`, so what it needs is free."""
        with self._lock:
            gpus = self._free_gpus()[: claim.gpus] if self._gpus else None
            share = Share(claim, gpus)
            self._held.append(share)
            return share

    def give_back(self, share: Share) -> None:
        with self._lock:
            self._held.remove(share)

    def _free_gpus(self) -> tuple[str, ...]:
        taken = {id for share in self._held for id in share.gpus or ()}
        return tuple(id for id in self._gpus if id not in taken)

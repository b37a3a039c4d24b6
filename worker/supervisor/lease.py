"""An attempt's right to write, as far as this process can know it."""

from collections.abc import Callable

from worker.supervisor.clock import boottime


class LeaseLost(Exception):
    """The right to the job is gone, or may be: end the trainer and write nothing."""


class Lease:
    """Confirmed by every write the ledger accepted; checked before every write.

    A confirmation counts from the moment the request was *sent*: the ledger extended the lease
    later than that, so this side always gives up first. A process that was stopped and wakes up
    finds its last confirmation too old before it does anything.
    """

    def __init__(
        self, *, fence_seconds: float, sent_at: float, clock: Callable[[], float] = boottime
    ) -> None:
        self._fence_seconds = fence_seconds
        self._confirmed_at = sent_at
        self._lost: str | None = None
        self._clock = clock

    def confirm(self, sent_at: float) -> None:
        self._confirmed_at = max(self._confirmed_at, sent_at)

    def lose(self, reason: str) -> None:
        """The ledger refused a write of this attempt; no later confirmation mends that."""
        self._lost = reason

    def check(self) -> None:
        """Raise LeaseLost unless the ledger confirmed the lease within ``fence_seconds``."""
        if self._lost is not None:
            raise LeaseLost(self._lost)
        age = self._clock() - self._confirmed_at
        if age > self._fence_seconds:
            raise LeaseLost(f"not confirmed for {age:.1f} s")

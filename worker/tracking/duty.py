"""Of all workers one copies to the tracking server; another takes over when that one is gone."""

import time
from typing import Final
from uuid import uuid4

from worker.ledger.duties import leave_duty, take_duty
from worker.ledger.session import Ledger

NAME: Final = "tracking"
SECONDS: Final = 30.0


class DutyLost(Exception):
    """Somebody else does it now: what this process knows may be old."""


class Duty:
    """A lease of ``seconds`` in the ledger, renewed once half of it has gone."""

    def __init__(self, ledger: Ledger, *, seconds: float = SECONDS) -> None:
        self._ledger = ledger
        self._seconds = seconds
        self._holder = uuid4().hex
        self._until = 0.0

    def held(self) -> bool:
        """Raises LedgerUnavailable."""
        asked_at = _now()
        if self._until - asked_at > self._seconds / 2:
            return True
        with self._ledger.unit_of_work() as session:
            taken = take_duty(session, NAME, holder=self._holder, seconds=self._seconds)
        self._until = asked_at + self._seconds if taken else 0.0
        return taken

    def check(self) -> None:
        """Before each thing that is said to the server. Raises DutyLost, LedgerUnavailable."""
        if not self.held():
            raise DutyLost("another worker copies to the tracking server")

    def leave(self) -> None:
        """Raises LedgerUnavailable."""
        self._until = 0.0
        with self._ledger.unit_of_work() as session:
            leave_duty(session, NAME, holder=self._holder)


def _now() -> float:
    """A clock that goes on while the host sleeps or this process is stopped."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)

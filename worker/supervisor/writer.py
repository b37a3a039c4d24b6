"""The one gate through which an attempt writes to the ledger."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import structlog
from sqlalchemy.orm import Session

from worker.ledger.errors import Fenced, LedgerUnavailable
from worker.ledger.session import Ledger
from worker.supervisor.clock import boottime
from worker.supervisor.lease import Lease, LeaseLost

log = structlog.get_logger()
T = TypeVar("T")
PAUSE_SECONDS = 0.2
PAUSE_SECONDS_MAX = 2.0


@dataclass(frozen=True)
class Writer:
    """Checks the lease before every transaction; once the ledger refused one, there is no other."""

    ledger: Ledger
    lease: Lease

    def write(self, action: Callable[[Session], T], *, renews: bool = False) -> T:
        """Run ``action`` in one transaction. ``renews``: it extends the lease.

        Raises LeaseLost, LedgerUnavailable.
        """
        sent_at = boottime()
        self.lease.check()
        try:
            with self.ledger.unit_of_work() as session:
                result = action(session)
        except Fenced as fenced:
            self.lease.lose(fenced.message)
            raise LeaseLost(fenced.message) from fenced
        if renews:
            self.lease.confirm(sent_at)
        return result

    def insist(self, action: Callable[[Session], T]) -> T:
        """`write` until the ledger answers, as long as the lease lasts. Raises LeaseLost."""
        pause = PAUSE_SECONDS
        while True:
            try:
                return self.write(action)
            except LedgerUnavailable as error:
                log.warning("ledger.unavailable", reason=error.message, pause_seconds=pause)
            time.sleep(pause)
            pause = min(2 * pause, PAUSE_SECONDS_MAX)

"""The ledger: what was asked for, what became of it, and all SQL of the service.

A write happens inside `Ledger.unit_of_work`; the functions are in the modules named after what they
act on: `datasets`, `models`, `experiments`, `jobs`, `reading`, `projection`. No torch, no broker.
"""

from worker.ledger.errors import (
    Fenced,
    IdempotencyMismatch,
    InvalidReference,
    LedgerError,
    LedgerUnavailable,
    NotAllowedNow,
    NotFound,
)
from worker.ledger.files import FileRef
from worker.ledger.pages import Page
from worker.ledger.session import Ledger, Listener
from worker.ledger.states import Phase

__all__ = [
    "Fenced",
    "FileRef",
    "IdempotencyMismatch",
    "InvalidReference",
    "Ledger",
    "LedgerError",
    "LedgerUnavailable",
    "Listener",
    "NotAllowedNow",
    "NotFound",
    "Page",
    "Phase",
]

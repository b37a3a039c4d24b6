"""Whether the process can do its work: database, schema, artefact store."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import structlog

from worker.artifacts import ArtifactError, ArtifactStore
from worker.ledger.errors import LedgerUnavailable
from worker.ledger.migrate import expected_heads, found_heads
from worker.ledger.session import Ledger

log = structlog.get_logger()


@dataclass(frozen=True)
class Check:
    """``needed``: without it nothing can be served at all."""

    ok: bool
    message: str
    needed: bool = True

    def to_json(self) -> dict[str, Any]:
        return {"ok": self.ok, "message": self.message}


def check(ledger: Ledger, store: ArtifactStore) -> dict[str, Check]:
    """Every check by its name; none of them raises.

    Without a storage service jobs can still be submitted, listed and cancelled.
    """
    return {
        "database": _checked(ledger.ping, "answers"),
        "migrations": _checked(lambda: _require_current(ledger), "current"),
        "artifacts": _checked(lambda: _require_store(store), "usable", needed=store.local),
    }


class _NotReadyError(Exception):
    pass


def _checked(action: Callable[[], None], well: str, *, needed: bool = True) -> Check:
    try:
        action()
    except (_NotReadyError, LedgerUnavailable) as error:
        return Check(ok=False, message=str(error), needed=needed)
    return Check(ok=True, message=well, needed=needed)


def _require_current(ledger: Ledger) -> None:
    with ledger.unit_of_work() as session:
        found = found_heads(session)
    if found != expected_heads():
        raise _NotReadyError("the schema of the database is not the one of this version")


def _require_store(store: ArtifactStore) -> None:
    try:
        store.check()
    except ArtifactError as error:
        # Its message names folders or buckets of the server; its log holds it.
        log.warning("store.unusable", reason=error.message, remedy=error.remedy)
        raise _NotReadyError("the artefact store cannot be used") from error

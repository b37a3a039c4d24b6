"""Whether the process can do its work: database, schema, artefact folder."""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from worker.ledger.errors import LedgerUnavailable
from worker.ledger.migrate import expected_heads, found_heads
from worker.ledger.session import Ledger


@dataclass(frozen=True)
class Check:
    ok: bool
    message: str

    def to_json(self) -> dict[str, Any]:
        return {"ok": self.ok, "message": self.message}


def check(ledger: Ledger, artifacts: Path) -> dict[str, Check]:
    """Every check by its name; none of them raises."""
    return {
        "database": _checked(ledger.ping, "answers"),
        "migrations": _checked(lambda: _require_current(ledger), "current"),
        "artifacts": _checked(lambda: _require_writable(artifacts), "writable"),
    }


class _NotReadyError(Exception):
    pass


def _checked(action: Callable[[], None], well: str) -> Check:
    try:
        action()
    except (_NotReadyError, LedgerUnavailable) as error:
        return Check(ok=False, message=str(error))
    return Check(ok=True, message=well)


def _require_current(ledger: Ledger) -> None:
    with ledger.unit_of_work() as session:
        found = found_heads(session)
    if found != expected_heads():
        raise _NotReadyError("the schema of the database is not the one of this version")


def _require_writable(folder: Path) -> None:
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"ready")
    except OSError as error:
        raise _NotReadyError(f"the artefact folder takes no files: {error.strerror}") from error

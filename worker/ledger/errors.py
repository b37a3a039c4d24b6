"""What the ledger refuses. These errors know no HTTP; one table in `api` maps each to a status.

::

    LedgerError
    ├── NotFound            no such thing, or it belongs to somebody else
    ├── InvalidReference    the request names a dataset, model or cursor that cannot be used
    ├── IdempotencyMismatch the Idempotency-Key was used with another body
    ├── NotAllowedNow       the state of the thing forbids the action
    ├── Fenced              the attempt no longer holds the job: discard what it brought
    └── LedgerUnavailable   Postgres is away or too busy: nothing was decided, try again
"""


class LedgerError(Exception):
    """``field`` is the dotted path of the offending request field, if there is one."""

    def __init__(self, message: str, *, field: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.field = field


class NotFound(LedgerError):
    pass


class InvalidReference(LedgerError):
    pass


class IdempotencyMismatch(LedgerError):
    pass


class NotAllowedNow(LedgerError):
    pass


class Fenced(LedgerError):
    pass


class LedgerUnavailable(LedgerError):
    pass

"""How an attempt ends early: a reason that the ledger's table of failures knows."""

from kdcore.spec import Failure, FailureKind, Outcome


class AttemptFailed(Exception):
    """The attempt cannot go on; ``failure`` is what the ledger shall hear."""

    def __init__(self, kind: FailureKind, message: str, *, remedy: str | None = None) -> None:
        super().__init__(message)
        self.failure = Failure(kind=kind, message=message, remedy=remedy)


def failed(kind: FailureKind, message: str) -> Outcome:
    """The outcome of an attempt whose trainer left none of its own."""
    status = "interrupted" if kind is FailureKind.INTERRUPTED else "failed"
    return Outcome(status=status, failure=Failure(kind=kind, message=message))

"""Where the messages for this process arrive: the two tasks, and whom they reach."""

from worker.supervisor.supervisor import Supervisor


class Inbox:
    """Before `supervisor` is set nobody listens, and a message changes nothing."""

    def __init__(self) -> None:
        self.supervisor: Supervisor | None = None
        self.received = 0


inbox = Inbox()
"""The one of this process."""


def wake(job_id: str) -> None:  # noqa: ARG001 (for whoever looks at the queue)
    """Which job it was does not matter here: the ledger says which one is next."""
    inbox.received += 1
    if inbox.supervisor is not None:
        inbox.supervisor.wake()


def tick() -> None:
    inbox.received += 1
    if inbox.supervisor is not None:
        inbox.supervisor.tick()

"""Drops the rows that say when maintenance ran."""

from datetime import timedelta
from typing import Final

from worker.artifacts import ArtifactStore
from worker.ledger import ticks
from worker.ledger.session import Ledger

KEEP: Final = timedelta(days=2)
"""Longer than the longest period of a schedule."""


def forget_ticks(ledger: Ledger, store: ArtifactStore) -> None:  # noqa: ARG001 (see `Schedule`)
    with ledger.unit_of_work() as session:
        ticks.forget(session, older_than=KEEP)

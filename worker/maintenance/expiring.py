"""Cancels what was not done by its deadline."""

import structlog

from worker.artifacts import ArtifactStore
from worker.ledger.jobs import expire
from worker.ledger.session import Ledger

log = structlog.get_logger()


def expire_experiments(ledger: Ledger, store: ArtifactStore) -> None:  # noqa: ARG001 (see `Schedule`)
    with ledger.unit_of_work() as session:
        expired = expire(session)
    for experiment_id in expired:
        log.warning("experiment.expired", experiment=str(experiment_id))

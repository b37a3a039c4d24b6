"""Takes jobs from workers that stopped renewing their leases."""

import structlog

from worker.artifacts import ArtifactStore
from worker.ledger.jobs import rescue
from worker.ledger.session import Ledger

log = structlog.get_logger()


def rescue_jobs(ledger: Ledger, store: ArtifactStore) -> None:  # noqa: ARG001 (see `Schedule`)
    with ledger.unit_of_work() as session:
        rescued = rescue(session)
    for job_id in rescued:
        log.warning("job.rescued", job=str(job_id))

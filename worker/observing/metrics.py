"""What a worker counts, and the page where Prometheus reads it."""

from typing import Final

import structlog
from prometheus_client import Gauge, Histogram, start_http_server

from worker.observing.registry import REGISTRY

log = structlog.get_logger()

SLOTS: Final = Gauge(
    "stillhouse_worker_slots", "Attempts that this worker runs at a time.", registry=REGISTRY
)
BUSY: Final = Gauge(
    "stillhouse_worker_slots_busy", "Slots that hold an attempt now.", registry=REGISTRY
)
CLAIM_SECONDS: Final = Histogram(
    "stillhouse_claim_seconds",
    "From the moment a job may start (inputs there, delay over) to its claim.",
    ["queue"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 6, 15, 60, 300, 1800, 7200, 43_200),
    registry=REGISTRY,
)
ATTEMPT_SECONDS: Final = Histogram(
    "stillhouse_attempt_seconds",
    "Duration of attempts by how they ended: succeeded, cancelled, a failure kind; discarded when "
    "the job was lost to another worker.",
    ["outcome"],
    buckets=(1, 5, 15, 60, 300, 900, 3600, 14_400, 43_200, 86_400, 259_200),
    registry=REGISTRY,
)


def serve(host: str, port: int) -> int | None:
    """Serve the metrics of this process in a thread; the port, of which 0 means any that is free.

    A port that is taken is worth an error line, not the trainings: then None.
    """
    try:
        server, _ = start_http_server(port, host, REGISTRY)
    except OSError as error:
        log.error(  # noqa: TRY400 (the reason says it all)
            "metrics.unavailable", host=host, port=port, reason=error.strerror or str(error)
        )
        return None
    log.info("metrics.served", host=host, port=server.server_port)
    return server.server_port

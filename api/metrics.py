"""What `GET /metrics` shows: this process's requests, and how the queue stands for all of them."""

from collections.abc import Iterable
from itertools import chain
from typing import Final

from prometheus_client import Histogram, Metric, generate_latest
from prometheus_client.metrics_core import GaugeMetricFamily

from worker.ledger import gauges, projection
from worker.ledger.errors import LedgerUnavailable
from worker.ledger.session import Ledger
from worker.observing.registry import REGISTRY

REQUEST_SECONDS: Final = Histogram(
    "stillhouse_http_request_seconds",
    "From a request to the first byte of its answer.",
    ["method", "route", "status"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60, 300),
    registry=REGISTRY,
)

LEDGER_GAUGES: Final[dict[str, tuple[str, tuple[str, ...]]]] = {
    "stillhouse_ledger_up": ("Whether the database answered this scrape.", ()),
    "stillhouse_queue_jobs_queued": (
        "Jobs that wait for a slot, or for a delay after a failure.",
        ("queue",),
    ),
    "stillhouse_queue_jobs_running": ("Jobs that a worker holds.", ("queue",)),
    "stillhouse_queue_oldest_seconds": (
        "For how long the longest waiting job might have started.",
        ("queue",),
    ),
    "stillhouse_leases_expired": (
        "Running jobs whose worker fell silent and that nobody took over yet.",
        (),
    ),
    "stillhouse_projection_lag_seconds": ("Age of the oldest metric point that MLflow lacks.", ()),
    "stillhouse_projection_lag_points": ("Metric points that MLflow lacks.", ()),
}
"""Read from the ledger with each scrape: meaning and labels. All replicas show the same values."""


class Exposition:
    """The metrics page of one API process; ``projected``: there is an MLflow server to lag behind."""

    def __init__(self, ledger: Ledger, *, projected: bool) -> None:
        self._ledger = ledger
        self._projected = projected
        self._queues: set[str] = set()

    def page(self) -> bytes:
        """Prometheus' text format. Never fails for want of the database."""
        return generate_latest(self)

    def collect(self) -> Iterable[Metric]:
        return chain(REGISTRY.collect(), self._ledger_gauges())

    def _ledger_gauges(self) -> list[Metric]:
        shown = {
            name: GaugeMetricFamily(name, meaning, labels=labels)
            for name, (meaning, labels) in LEDGER_GAUGES.items()
        }
        try:
            self._read(shown)
        except LedgerUnavailable:
            shown["stillhouse_ledger_up"].add_metric([], 0)
        return [family for family in shown.values() if family.samples]

    def _read(self, shown: dict[str, GaugeMetricFamily]) -> None:
        with self._ledger.unit_of_work() as session:
            standing = {each.queue: each for each in gauges.queues(session)}
            expired = gauges.expired_leases(session)
            lag = projection.lag(session) if self._projected else None
        # A queue that ran empty shows zeros rather than vanish in the middle of a graph.
        self._queues = self._queues | standing.keys()
        for queue in sorted(self._queues):
            now = standing.get(queue, gauges.QueueGauges(queue))
            shown["stillhouse_queue_jobs_queued"].add_metric([queue], now.queued)
            shown["stillhouse_queue_jobs_running"].add_metric([queue], now.running)
            shown["stillhouse_queue_oldest_seconds"].add_metric([queue], now.oldest_seconds)
        shown["stillhouse_leases_expired"].add_metric([], expired)
        if lag is not None:
            shown["stillhouse_projection_lag_seconds"].add_metric([], lag.seconds)
            shown["stillhouse_projection_lag_points"].add_metric([], lag.points)
        shown["stillhouse_ledger_up"].add_metric([], 1)

"""The metrics of this process, in Prometheus' terms; every process has these.

A module that counts something registers it here when it is imported, so a process shows the metrics
of the code it runs and no others. Names start with ``stillhouse_`` and end in their unit.
"""

from typing import Final

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Info,
    ProcessCollector,
    disable_created_metrics,
)

from kdcore import __version__

# Twice as many time series, for a date that `process_start_time_seconds` tells as well.
disable_created_metrics()  # type: ignore[no-untyped-call]

REGISTRY: Final = CollectorRegistry()
ProcessCollector(registry=REGISTRY)

Info("stillhouse_build", "The version that runs.", registry=REGISTRY).info({"version": __version__})

LOG_EVENTS: Final = Counter(
    "stillhouse_log_events",
    "Log lines by the name of their event.",
    ["event", "level"],
    registry=REGISTRY,
)
"""Whatever is worth a log line has a rate, without a metric of its own: the names are literals."""

"""OpenTelemetry traces, where OTEL_EXPORTER_OTLP_ENDPOINT is set; elsewhere nothing is done.

A trace begins with the request that submits. Its `traceparent` lies in the first event of each job
the request made, so the attempts of any worker, hours later, belong to it. The SDK is imported only
where traces are sent.
"""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Final

import structlog

from kdcore import __version__

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

log = structlog.get_logger()
ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
TRACER: Final = "stillhouse"


def configure(service: str) -> None:
    """Once for a process, before its first span. OTEL_SERVICE_NAME goes before ``service``."""
    os.environ.setdefault("OTEL_SERVICE_NAME", service)
    if _wanted() and provider() is None:
        log.warning(
            "tracing.unavailable",
            remedy="install the dependency group `tracing`, or unset OTEL_EXPORTER_OTLP_ENDPOINT",
        )


@cache
def provider() -> "TracerProvider | None":
    """Sends the spans of this process, in the background and on exit.

    None without an endpoint, and where OpenTelemetry's SDK is not installed. Logs nothing, because
    log lines ask for their trace.
    """
    if not _wanted():
        return None
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ModuleNotFoundError:
        return None
    made = TracerProvider(resource=Resource.create({"service.version": __version__}))
    made.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return made


@contextmanager
def span(
    name: str,
    *,
    parent: str | None = None,
    started_seconds_ago: float = 0.0,
    attributes: dict[str, str | int] | None = None,
) -> Iterator[None]:
    """The block as a span, below the one of ``parent`` (a `traceparent`) or the current one."""
    spans = provider()
    if spans is None:
        yield
        return
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    above = TraceContextTextMapPropagator().extract({"traceparent": parent}) if parent else None
    with spans.get_tracer(TRACER, __version__).start_as_current_span(
        name,
        context=above,
        start_time=time.time_ns() - int(started_seconds_ago * 1e9),
        attributes=attributes,
    ):
        yield


def traceparent() -> str | None:
    """The current span for a process that goes on with the trace (W3C Trace Context)."""
    if provider() is None:
        return None
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    carrier: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(carrier)
    return carrier.get("traceparent")


def trace_id() -> str | None:
    """32 hexadecimal digits; None outside of a trace."""
    parent = traceparent()
    return parent and parent.split("-")[1]


def _wanted() -> bool:
    return any(os.environ.get(name) for name in ENDPOINTS)

"""Structured logging of API and worker: one event a line, named like ``job.claimed``.

Fields bound with `structlog.contextvars` (job, attempt, request) are on every line of their thread
or request. Libraries that log through `logging` get the same form. Lines hold no local variables
of tracebacks and no passwords of addresses, wherever those come from.
"""

import logging
import re
import sys
from typing import Final, Literal

import structlog
from structlog.tracebacks import ExceptionDictTransformer
from structlog.typing import EventDict, Processor, WrappedLogger

from worker.observing import tracing
from worker.observing.registry import LOG_EVENTS

EVENT_NAME: Final = re.compile(r"[a-z_]+(\.[a-z_]+)+")
PASSWORD: Final = re.compile(r"(?<=://)([^\s:/@]*):[^\s/@]+@")


def configure(log_format: Literal["console", "json"]) -> None:
    """Send every log line to standard error, for people or as JSON."""
    describing: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _add_trace,
    ]
    writing = [*_writing(log_format), _without_passwords]
    structlog.configure(
        processors=[*describing, _count, *writing],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*describing, structlog.stdlib.add_logger_name],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *writing],
        )
    )
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)


def _writing(log_format: Literal["console", "json"]) -> list[Processor]:
    if log_format == "json":
        tracebacks = ExceptionDictTransformer(show_locals=False)
        return [
            structlog.processors.ExceptionRenderer(tracebacks),
            structlog.processors.JSONRenderer(),
        ]
    return [
        structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
    ]


def _add_trace(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    trace_id = tracing.trace_id()
    if trace_id is not None:
        event["trace"] = trace_id
    return event


def _count(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Sentences of other libraries are no names: each would be a time series of its own."""
    name = str(event["event"])
    LOG_EVENTS.labels(name if EVENT_NAME.fullmatch(name) else "other", event["level"]).inc()
    return event


def _without_passwords(_: WrappedLogger, __: str, line: object) -> str:
    return PASSWORD.sub(r"\1:***@", str(line))

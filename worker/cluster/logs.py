"""What Celery says, in the same lines as everything else."""

import logging
from typing import Literal

import structlog

from worker.log import configure as configure_own

QUIET = ("celery.worker.strategy", "celery.app.trace", "celery.beat")
"""They tell of every single message."""


def configure(log_format: Literal["console", "json"], level: int | None) -> None:
    configure_own(log_format)
    root = logging.getLogger()
    root.handlers = [_ToStructlog()]
    root.setLevel(level or logging.INFO)
    for name in QUIET:
        logging.getLogger(name).setLevel(max(root.level, logging.WARNING))


class _ToStructlog(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        log = structlog.get_logger()
        log.log(record.levelno, record.getMessage(), logger=record.name, exc_info=record.exc_info)

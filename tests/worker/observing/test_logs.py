"""What a process writes to standard error, in a process of its own: logging is set up globally."""

import json
import subprocess
import sys
from typing import Any

SPEAKING = """
import logging
import sys

import structlog
from structlog.contextvars import bound_contextvars

from worker.log import configure
from worker.observing.registry import LOG_EVENTS, REGISTRY

configure(sys.argv[1])
log = structlog.get_logger()
with bound_contextvars(job="j-1", attempt=2):
    log.info("trainer.started", pid=17)
    logging.getLogger("somelib").warning("cannot reach %s", "redis://kd:hunter2@redis:6379/0")
log.warning("claim.failed", url="postgresql+psycopg://kd:hunter2@db/stillhouse")
log.warning("claim.failed", url="https://db/no?at=a:b@c")
logging.getLogger("somelib").info("chatter")
password = "hunter2"
try:
    1 / 0
except ZeroDivisionError:
    log.exception("attempt.crashed")
log.error("One sentence of many. Number 7!")
for name, level in (("claim.failed", "warning"), ("other", "error")):
    print(name, REGISTRY.get_sample_value(
        "stillhouse_log_events_total", {"event": name, "level": level}
    ))
"""


def test_json() -> None:
    said = speak("json")
    lines: list[dict[str, Any]] = [json.loads(line) for line in said.stderr.splitlines()]
    started, foreign, failed, harmless, crashed, _ = lines
    assert (started["event"], started["job"], started["attempt"]) == ("trainer.started", "j-1", 2)
    assert started["level"] == "info"
    assert started["timestamp"].endswith("Z")
    assert (foreign["logger"], foreign["job"], foreign["level"]) == ("somelib", "j-1", "warning")
    assert foreign["event"] == "cannot reach redis://kd:***@redis:6379/0"
    assert failed["url"] == "postgresql+psycopg://kd:***@db/stillhouse"
    assert harmless["url"] == "https://db/no?at=a:b@c"
    assert "job" not in failed
    assert crashed["exception"][0]["exc_type"] == "ZeroDivisionError"
    assert "hunter2" not in said.stderr
    assert "chatter" not in said.stderr


def test_for_people() -> None:
    said = speak("console")
    assert "trainer.started" in said.stderr
    assert "ZeroDivisionError" in said.stderr
    assert "hunter2" not in said.stderr


def test_events_are_counted_by_name_and_sentences_are_not() -> None:
    assert speak("json").stdout.splitlines() == ["claim.failed 2.0", "other 1.0"]


def speak(log_format: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", SPEAKING, log_format], capture_output=True, text=True, check=True
    )

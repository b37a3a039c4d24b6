"""What a check has found."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any


class Level(StrEnum):
    OK = "ok"
    SKIPPED = "skipped"
    """Not set up, and not needed."""
    WARNING = "warning"
    """Works, and will hurt."""
    ERROR = "error"
    """Jobs fail or wait until somebody does something."""


@dataclass(frozen=True)
class Finding:
    """Whatever is not well has a remedy. No message holds a secret."""

    level: Level
    message: str
    remedy: str | None = None


@dataclass(frozen=True)
class Report:
    findings: Mapping[str, Iterable[Finding]]
    """By the name of the check."""

    @property
    def healthy(self) -> bool:
        """Without an error; warnings are allowed."""
        every = (finding for found in self.findings.values() for finding in found)
        return all(finding.level is not Level.ERROR for finding in every)

    def to_json(self) -> dict[str, Any]:
        return {
            "healthy": self.healthy,
            "findings": [
                {"check": check, **asdict(finding)}
                for check, found in self.findings.items()
                for finding in found
            ],
        }


def ok(message: str) -> Finding:
    return Finding(Level.OK, message)


def skipped(message: str) -> Finding:
    return Finding(Level.SKIPPED, message)


def warning(message: str, remedy: str) -> Finding:
    return Finding(Level.WARNING, message, remedy)


def error(message: str, remedy: str) -> Finding:
    return Finding(Level.ERROR, message, remedy)

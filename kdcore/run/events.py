"""`events.jsonl`: one flushed line an event."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from kdcore.spec.events import Event
from kdcore.spec.rundir import EVENTS

Listener = Callable[[Event], None]


class EventLog:
    """Appends events to the run's file, and calls ``listener`` with each."""

    def __init__(self, run: Path, listener: Listener | None = None) -> None:
        self._file = (run / EVENTS).open("ab")
        self._listener = listener

    def add(self, event: Event) -> None:
        self._file.write(event.model_dump_json(by_alias=True).encode() + b"\n")
        self._file.flush()
        if self._listener is not None:
            self._listener(event)

    def close(self) -> None:
        self._file.close()


class SilentLog(EventLog):
    """Of the ranks that tell nothing, since the first one does."""

    def __init__(self) -> None:
        """No file."""

    def add(self, event: Event) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


def now() -> datetime:
    return datetime.now(UTC)

"""`log.txt`: what the trainer printed."""

from dataclasses import dataclass
from pathlib import Path

from kdcore.spec import rundir
from worker.artifacts import ArtifactStore
from worker.ledger.files import FileRef

MESSAGE_LINES = 20
MESSAGE_BYTES = 4_000
PUBLISHED_BYTES = 8 << 20
"""Of a longer log only the end is published."""

FRESH_SECONDS = 2.0
STALE_SECONDS = 60.0
GROWTH = 1.25


def last_lines(log: Path) -> str:
    """The end of the log, for a failure's message; empty if there is none."""
    try:
        with log.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - MESSAGE_BYTES))
            text = file.read().decode(errors="replace")
    except FileNotFoundError:
        return ""
    return "\n".join(text.splitlines()[-MESSAGE_LINES:])


@dataclass
class LogSnapshots:
    """Stores the log again and again while it grows.

    Each snapshot is a content of its own, so it is taken when the log has grown by a quarter (all
    snapshots together are then at most five times the last one), or once a minute.
    """

    run: Path
    store: ArtifactStore
    _size: int = 0
    _at: float = 0.0

    def due(self, now: float) -> bool:
        size = self._log_size()
        if size == self._size:
            return False
        age = now - self._at
        return (age > FRESH_SECONDS and size >= GROWTH * self._size) or age > STALE_SECONDS

    def take(self, now: float) -> FileRef | None:
        """Store the log as it is now; None without one. Raises what `ArtifactStore.put` raises."""
        self._at, self._size = now, self._log_size()
        log = self.run / rundir.LOG
        if self._size == 0:
            return None
        return self.store.put(self._tail(log) if self._size > PUBLISHED_BYTES else log)

    def _log_size(self) -> int:
        try:
            return (self.run / rundir.LOG).stat().st_size
        except FileNotFoundError:
            return 0

    def _tail(self, log: Path) -> Path:
        tail = self.run / ".log-end.txt"
        with log.open("rb") as source:
            source.seek(-PUBLISHED_BYTES, 2)
            tail.write_bytes(source.read(PUBLISHED_BYTES))
        return tail

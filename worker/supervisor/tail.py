"""Reading `events.jsonl` while the trainer writes it."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from kdcore.spec import Event, FailureKind, event_adapter
from worker.supervisor.failing import AttemptFailed

BATCH_LINES = 500
BATCH_BYTES = 1 << 20
LINE_BYTES_MAX = 1 << 20


@dataclass(frozen=True)
class Batch:
    """``upto`` is the offset in the file where the batch ends."""

    events: tuple[Event, ...]
    upto: int


class EventTail:
    """Hands out complete lines in order. A batch is handed out again until it is taken.

    The file is the buffer: nothing is lost while the ledger is away, and memory holds one batch.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._taken = 0
        self._batch: Batch | None = None
        self._garbled: AttemptFailed | None = None

    def next(self) -> Batch | None:
        """The first batch not yet taken; None when there is no complete line.

        Raises AttemptFailed (`TRAINER_GARBLED`) at a line that is no event, once all before it are
        taken.
        """
        if self._batch is None:
            if self._garbled is not None:
                raise self._garbled
            self._batch = self._read()
        return self._batch

    def size(self) -> int:
        """Bytes the trainer has written so far."""
        try:
            return self._path.stat().st_size
        except FileNotFoundError:
            return 0

    def take(self, batch: Batch) -> None:
        """The ledger has it: never hand it out again."""
        self._taken = batch.upto
        self._batch = None

    def _read(self) -> Batch | None:
        try:
            with self._path.open("rb") as file:
                file.seek(self._taken)
                block = file.read(BATCH_BYTES + LINE_BYTES_MAX)
        except FileNotFoundError:
            return None
        events: list[Event] = []
        upto = self._taken
        for line in _complete_lines(block):
            try:
                events.append(event_adapter.validate_json(line))
            except ValidationError as error:
                self._garbled = _garbled(line, upto, error)
                break
            upto += len(line)
            if len(events) == BATCH_LINES or upto - self._taken > BATCH_BYTES:
                break
        else:
            if not events and len(block) > LINE_BYTES_MAX:
                self._garbled = _garbled(block, upto, None)
        if events:
            return Batch(events=tuple(events), upto=upto)
        if self._garbled is not None:
            raise self._garbled
        return None


def _complete_lines(block: bytes) -> Iterator[bytes]:
    return (line + b"\n" for line in block.split(b"\n")[:-1])


def _garbled(line: bytes, offset: int, error: ValidationError | None) -> AttemptFailed:
    reason = error.errors(include_url=False)[0]["msg"] if error else "the line does not end"
    excerpt = line[:80].decode(errors="replace").strip()
    return AttemptFailed(
        FailureKind.TRAINER_GARBLED,
        f"events.jsonl at byte {offset}: {reason}: {excerpt!r}",
    )

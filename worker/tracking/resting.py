"""Things that could not be brought now, each left alone for longer and longer."""

import time
from collections.abc import Callable
from typing import Final
from uuid import UUID

FIRST_SECONDS: Final = 1.0
LONGEST_SECONDS: Final = 300.0


class Resting:
    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._until: dict[UUID, float] = {}
        self._pause: dict[UUID, float] = {}

    def now(self) -> set[UUID]:
        return {id for id, until in self._until.items() if until > self._clock()}

    def rest(self, id: UUID) -> float:
        """For how many seconds from now."""
        pause = min(2 * self._pause.get(id, FIRST_SECONDS / 2), LONGEST_SECONDS)
        self._pause[id] = pause
        self._until[id] = self._clock() + pause
        return pause

    def done(self, id: UUID) -> None:
        self._until.pop(id, None)
        self._pause.pop(id, None)

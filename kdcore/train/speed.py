"""How fast a training is, and how much of its time it waits for data."""

import time
from collections.abc import Callable, Iterator

from kdcore.data.batches import Batch
from kdcore.timing import part

IMAGES_PER_SECOND, INPUT_STALL = "images_per_second", "input_stall"


class Speed:
    """Times the steps of a training; evaluations and checkpoints between them do not count.

    A step goes from asking for its batch to `stepped`. On a GPU its work is only queued by then: the
    figures are right over any span whose last step has waited for the device.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._began = 0.0
        self._recent, self._earlier = _Span(), _Span()

    def timed(self, stream: Iterator[Batch]) -> Iterator[Batch]:
        """The batches of ``stream``; the time until each is there counts as waited."""
        while True:
            self._began = self._clock()
            with part("data"):
                batch = next(stream, None)
            if batch is None:
                return
            self._recent.waited += self._clock() - self._began
            yield batch

    def stepped(self, images: int) -> None:
        """A step on ``images`` is done."""
        self._recent.seconds += self._clock() - self._began
        self._recent.images += images

    def report(self) -> dict[str, float]:
        """Images a second, and the share (0 to 1) of the time waited for data, since the last report."""
        recent, self._recent = self._recent, _Span()
        self._earlier = self._earlier + recent
        return recent.values()

    def overall(self) -> dict[str, float]:
        """The same since the process began to train; nothing where it did no step."""
        return (self._earlier + self._recent).values()


class _Span:
    def __init__(self, images: int = 0, seconds: float = 0.0, waited: float = 0.0) -> None:
        self.images, self.seconds, self.waited = images, seconds, waited

    def __add__(self, other: "_Span") -> "_Span":
        return _Span(
            self.images + other.images, self.seconds + other.seconds, self.waited + other.waited
        )

    def values(self) -> dict[str, float]:
        if self.seconds <= 0:
            return {}
        return {
            IMAGES_PER_SECOND: self.images / self.seconds,
            INPUT_STALL: self.waited / self.seconds,
        }

"""Whether the consumer still receives what the broker holds for it."""

from collections.abc import Callable

from worker.cluster.configuration import BROKER_AWAY

UNANSWERED_MAX = 4
"""Celery waits up to 30 s before it connects again; four of the default period are longer."""


class Probe:
    """Sends this process a message at each look; what comes back, if only later, shows life.

    After a reconnect a consumer may be connected, answer nothing and say nothing: celery #8030,
    #10205, #10302. Counting looks instead of seconds, a process that was stopped and goes on has
    time to receive what waited for it.
    """

    def __init__(self, send: Callable[[], object], received: Callable[[], int]) -> None:
        """``send`` raises one of BROKER_AWAY; ``received`` counts messages of any kind."""
        self._send = send
        self._received = received
        self._seen = received()
        self._unanswered = 0

    def is_deaf(self) -> bool:
        """Call once a period. A broker that is away is no fault of the consumer."""
        received = self._received()
        if received != self._seen:
            self._seen, self._unanswered = received, 0
        try:
            self._send()
        except BROKER_AWAY:
            self._unanswered = 0
            return False
        self._unanswered += 1
        return self._unanswered > UNANSWERED_MAX

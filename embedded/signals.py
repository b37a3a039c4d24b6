"""Ctrl-C and SIGTERM become an event that every wait watches; the second time is an order."""

import os
import signal
import threading

INTERRUPTED = 130


def stop_event() -> threading.Event:
    """Set by the first signal; the second ends this process at once. For the main thread.

    That leaves nothing behind: keepers notice that their owner is gone, kill what they keep, and
    let Postgres end in order.
    """
    stopping = threading.Event()

    def handle(*_: object) -> None:
        if stopping.is_set():
            os._exit(INTERRUPTED)
        stopping.set()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, handle)
    return stopping

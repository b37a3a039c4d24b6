"""Calls that really run at once, each in its own transaction."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import TypeVar

R = TypeVar("R")


def at_once(calls: Sequence[Callable[[], R]]) -> list[R | BaseException]:
    """What each call returned or raised, in their order; all start behind one barrier."""
    barrier = Barrier(len(calls))

    def run(call: Callable[[], R]) -> R | BaseException:
        barrier.wait()
        try:
            return call()
        except Exception as error:  # noqa: BLE001  the caller looks at it
            return error

    with ThreadPoolExecutor(len(calls)) as threads:
        return list(threads.map(run, calls))

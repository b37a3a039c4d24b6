"""Waiting for what other processes do."""

import time
from collections.abc import Callable

import psutil


def until(condition: Callable[[], object], seconds: float = 30.0) -> None:
    """Looks again and again; fails the test when it does not come true in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.02)


def alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def all_gone(pids: list[int]) -> bool:
    return not any(alive(pid) for pid in pids)

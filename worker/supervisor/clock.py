"""The clock of leases."""

import time


def boottime() -> float:
    """Seconds on a clock that never jumps, and that also runs while the machine sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)

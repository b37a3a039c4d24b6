"""What has to be done again and again, whoever does it.

`SCHEDULES` says what and how often. Every worker looks when something may be due, and a row of the
ledger (`worker.ledger.ticks`) decides which of them does it: one, once for each moment. A function
may be ended at any point, with its process, and is called again at the next moment.
"""

from collections.abc import Callable
from typing import Final, NamedTuple

from worker.artifacts import ArtifactStore
from worker.ledger.session import Ledger
from worker.maintenance.expiring import expire_experiments
from worker.maintenance.forgetting import forget_ticks
from worker.maintenance.rescuing import rescue_jobs
from worker.maintenance.storage import SWEEP_SECONDS, clean_up, expire_files, sweep_contents


class Schedule(NamedTuple):
    """``run`` raises what it likes: that is logged and written to the row."""

    every_seconds: float
    run: Callable[[Ledger, ArtifactStore], object]


SCHEDULES: Final[dict[str, Schedule]] = {
    "rescue": Schedule(5, rescue_jobs),
    "deadlines": Schedule(5, expire_experiments),
    "ticks": Schedule(3600, forget_ticks),
    "storage.expire": Schedule(3600, expire_files),
    "storage.sweep": Schedule(SWEEP_SECONDS, sweep_contents),
    "storage.clean_up": Schedule(3600, clean_up),
}

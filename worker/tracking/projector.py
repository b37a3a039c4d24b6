"""Brings the tracking server up to date with the ledger, again and again.

The ledger's rows are the queue: each is marked once the server has taken it, and whatever a crash in
between sends again is known to the server. Metric points are one by their primary key there (run,
key, time, step, value), runs and model versions are found by their tags before they are made.

Call `worker.tracking.environment.prepare` before importing this.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from threading import Event
from typing import Protocol, TypeVar
from uuid import UUID

import structlog
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from worker.artifacts import ArtifactStore
from worker.ledger.errors import LedgerUnavailable
from worker.ledger.projection import POINTS_A_RUN
from worker.ledger.session import Ledger
from worker.tracking.duty import Duty, DutyLost
from worker.tracking.experiment_runs import ExperimentRuns
from worker.tracking.files import Files, FilesWait
from worker.tracking.homes import Homes
from worker.tracking.job_runs import JobRuns
from worker.tracking.refusals import first_line, is_about_one
from worker.tracking.registry import Registry
from worker.tracking.resting import Resting
from worker.tracking.runs import Runs

log = structlog.get_logger()
ROUND_SECONDS = 1.0
IDLE_SECONDS = 5.0
"""Of a worker that leaves it to another."""
BACKOFF_SECONDS_MAX = 30.0
POINTS_AT_LEAST = 25


class Item(Protocol):
    @property
    def id(self) -> UUID: ...


T = TypeVar("T", bound=Item)


class Projector:
    """One of all workers projects at a time; the others look in again later."""

    def __init__(
        self,
        url: str,
        experiment: str,
        *,
        ledger: Ledger,
        store: ArtifactStore,
        address: str,
        duty: Duty | None = None,
    ) -> None:
        """``address`` is where ``store`` is, as a URL. ``experiment`` may hold ``{owner}``."""
        client = MlflowClient(tracking_uri=url)
        self._homes = Homes(client, experiment)
        runs = Runs(client, self._homes)
        self._experiments = ExperimentRuns(runs, self._homes, ledger=ledger)
        self._jobs = JobRuns(runs, Files(runs, store, address), ledger=ledger)
        self._registry = Registry(client, ledger=ledger)
        self._duty = duty or Duty(ledger)
        self._resting = Resting()
        self._points = POINTS_A_RUN

    def run(self, stopped: Event) -> None:
        """Rounds until ``stopped``; a server that is away is asked more and more rarely."""
        pause = ROUND_SECONDS
        while not stopped.wait(pause):
            try:
                pause = self._round()
            except DutyLost:
                pause = IDLE_SECONDS
            except (MlflowException, LedgerUnavailable) as error:
                pause = min(2 * max(pause, ROUND_SECONDS), BACKOFF_SECONDS_MAX)
                log.warning("tracking.waits", reason=first_line(error), pause_seconds=pause)
            except Exception:
                pause = BACKOFF_SECONDS_MAX
                log.exception("tracking.failed")
        with suppress(LedgerUnavailable):
            self._duty.leave()

    def project(self) -> bool:
        """One round; whether there may be more at once.

        Raises `mlflow.exceptions.MlflowException` when the server is away, LedgerUnavailable and
        DutyLost.
        """
        made = self._each(self._experiments.waiting(self._resting), self._experiments.bring)
        waiting = self._jobs.waiting(self._resting, points=self._points)
        full = any(run.complete or len(run.points) >= self._points for run in waiting)
        try:
            self._each(waiting, self._jobs.bring)
        except MlflowException:
            # It may be slow rather than away: what it could not take in time may be too much.
            self._points = max(self._points // 2, POINTS_AT_LEAST)
            raise
        self._points = min(self._points + POINTS_AT_LEAST, POINTS_A_RUN)
        registered = self._each(
            self._registry.versions(self._resting), self._registry.bring_version
        )
        self._each(self._registry.aliases(self._resting), self._registry.bring_alias)
        return made or full or registered

    def _round(self) -> float:
        """How long to pause after it."""
        if not self._duty.held():
            return IDLE_SECONDS
        return 0.0 if self.project() else ROUND_SECONDS

    def _each(self, items: Sequence[T], bring: Callable[[T], None]) -> bool:
        """Whether any was brought. An answer about one does not keep the others waiting."""
        brought = False
        for item in items:
            self._duty.check()
            try:
                bring(item)
            except (DutyLost, LedgerUnavailable):
                raise
            except MlflowException as error:
                if not is_about_one(error):
                    raise
                self._rest(item, error)
            except FilesWait as error:
                self._rest(item, error)
            except Exception as error:
                # A row that this code cannot handle must not hold up all others for ever.
                log.exception("tracking.failed")
                self._rest(item, error)
            else:
                self._resting.done(item.id)
                brought = True
        return brought

    def _rest(self, item: Item, error: Exception) -> None:
        self._homes.forget()  # the answer may mean that they have gone
        pause = self._resting.rest(item.id)
        log.warning(
            "tracking.rests", id=str(item.id), reason=first_line(error), pause_seconds=pause
        )

"""Brings the tracking server up to date with the ledger, again and again.

The ledger's metric rows are the queue: a point is marked once the server has taken it. A crash in
between sends it again with the same time, and the server's primary key (run, key, time, step,
value) makes that no second point. Call `worker.tracking.environment.prepare` before importing this.
"""

import tempfile
from collections.abc import Iterable
from pathlib import Path
from threading import Event
from typing import Final

import structlog
from mlflow.exceptions import MlflowException, RestException

from kdcore.spec import rundir
from worker.artifacts import ArtifactError, ArtifactStore
from worker.ledger import experiments, reading
from worker.ledger.errors import LedgerUnavailable
from worker.ledger.files import FileRef
from worker.ledger.projection import PendingRun, close_run, mark_projected, pending, set_run
from worker.ledger.session import Ledger
from worker.ledger.states import TERMINAL, Phase
from worker.tracking.runs import Runs

log = structlog.get_logger()
POINTS_A_ROUND = 1000
ROUND_SECONDS = 1.0
BACKOFF_SECONDS_MAX = 30.0
PURPOSE = "stillhouse.tracking"
SHOWN_FILES: Final = frozenset(
    {
        rundir.MODEL_CARD,
        rundir.VERDICT,
        f"{rundir.REPORT}/verdict.html",
        f"{rundir.REPORT}/verdict.md",
    }
)
REFUSALS: Final = frozenset({"INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST"})


class Projector:
    """One of all workers projects at a time; the others look in again later."""

    def __init__(self, url: str, experiment: str, *, ledger: Ledger, store: ArtifactStore) -> None:
        self._runs = Runs(url, experiment)
        self._ledger = ledger
        self._store = store

    def run(self, stopped: Event) -> None:
        """Rounds until ``stopped``; a server that is away is asked more and more rarely."""
        pause = ROUND_SECONDS
        while not stopped.wait(pause):
            try:
                full = self.project()
                pause = 0.0 if full else ROUND_SECONDS
            except (MlflowException, LedgerUnavailable) as error:
                pause = min(2 * max(pause, ROUND_SECONDS), BACKOFF_SECONDS_MAX)
                log.warning("tracking.waits", reason=_first_line(error), pause_seconds=pause)
            except Exception:
                pause = BACKOFF_SECONDS_MAX
                log.exception("tracking.failed")

    def project(self) -> bool:
        """One round; whether there may be more at once.

        Raises `mlflow.exceptions.MlflowException`, LedgerUnavailable.
        """
        with self._ledger.alone(PURPOSE) as held:
            if not held:
                return False
            with self._ledger.unit_of_work() as session:
                waiting = pending(session, limit=POINTS_A_ROUND)
            self._project_runs(waiting)
        return sum(len(each.points) for each in waiting) >= POINTS_A_ROUND

    def _project_runs(self, waiting: Iterable[PendingRun]) -> None:
        """An answer about one run does not keep the others; without an answer there is no point."""
        failed: RestException | None = None
        for each in waiting:
            try:
                self._project_run(each)
            except RestException as error:
                failed = error
        if failed is not None:
            raise failed

    def _project_run(self, each: PendingRun) -> None:
        try:
            run_id = each.job.mlflow_run_id or self._make_run(each)
            if each.points:
                self._runs.log(run_id, each.points)
            if each.complete:
                self._show_files(run_id, each)
                self._runs.close(run_id, each)
                self._close_parent(each)
        except RestException as error:
            # The server understood and refuses, for ever: the run was deleted there, for example.
            # The ledger still has every point.
            if each.job.mlflow_run_id is None or error.error_code not in REFUSALS:
                raise
            log.error(  # noqa: TRY400 (the answer says it all)
                "tracking.refused", job=str(each.job.id), reason=_first_line(error)
            )
        with self._ledger.unit_of_work() as session:
            mark_projected(
                session,
                job_id=each.job.id,
                points=[(point.key, point.step) for point in each.points],
            )
            if each.complete:
                close_run(session, job_id=each.job.id)

    def _make_run(self, each: PendingRun) -> str:
        made = self._runs.run_of(each)
        with self._ledger.unit_of_work() as session:
            return set_run(session, job_id=each.job.id, run_id=made)

    def _close_parent(self, each: PendingRun) -> None:
        with self._ledger.unit_of_work() as session:
            whole = experiments.get_experiment(session, owner=each.owner, id=each.experiment_id)
        if whole.phase in TERMINAL:
            self._runs.close_parent(each, whole.phase, whole.finished_at)

    def _show_files(self, run_id: str, each: PendingRun) -> None:
        """Copies for looking at; a server that takes no files only lacks those."""
        if each.job.phase is not Phase.SUCCEEDED:
            return
        with self._ledger.unit_of_work() as session:
            stored = reading.artifacts(session, owner=each.owner, job_id=each.job.id)
        shown = [file for file in stored if file.path in SHOWN_FILES]
        try:
            self._send(run_id, shown)
        except (MlflowException, ArtifactError, OSError) as error:
            log.warning("tracking.files_refused", job=str(each.job.id), reason=_first_line(error))

    def _send(self, run_id: str, files: Iterable[reading.ArtifactView]) -> None:
        with tempfile.TemporaryDirectory(prefix="stillhouse-") as folder:
            for file in files:
                local = Path(folder, Path(file.path).name)
                self._store.fetch(FileRef(file.sha256, file.size), local)
                self._runs.log_file(run_id, local, str(Path(file.path).parent))


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0][:300]

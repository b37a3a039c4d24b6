"""The runs of jobs: made once, every point brought once, closed when the job has ended."""

from collections.abc import Sequence
from typing import Final
from uuid import UUID

import structlog
from mlflow.exceptions import MlflowException

from worker.ledger import reading
from worker.ledger.lineage import Lineage, lineage
from worker.ledger.projection import (
    RUNS_A_ROUND,
    PendingRun,
    close_run,
    mark_projected,
    pending,
    set_run,
)
from worker.ledger.session import Ledger
from worker.ledger.states import Phase
from worker.ledger.views import MetricPoint
from worker.tracking.files import Files, FilesWait
from worker.tracking.names import flattened
from worker.tracking.refusals import first_line, is_refusal
from worker.tracking.resting import Resting
from worker.tracking.runs import Runs
from worker.tracking.tags import JOB_TAG, closing_tags, run_tags

log = structlog.get_logger()
FILES_PATIENCE_SECONDS: Final = 3600.0
"""A server whose file storage is away for longer gets links in place of the copies."""
CONTEXT: Final = {"fit": "training", "compare": "evaluation"}


class JobRuns:
    """What `projection.pending` says is missing, one job at a time."""

    def __init__(self, runs: Runs, files: Files, *, ledger: Ledger) -> None:
        self._runs = runs
        self._files = files
        self._ledger = ledger
        self._after: UUID | None = None
        self._refused: set[UUID] = set()

    def waiting(self, resting: Resting, *, points: int) -> list[PendingRun]:
        """The next jobs in turn, each with at most ``points`` points."""
        with self._ledger.unit_of_work() as session:
            found = pending(session, limit=points, after=self._after, skip=resting.now())
        self._after = found[-1].id if len(found) == RUNS_A_ROUND else None
        # One whose experiment has no run yet has its turn once that was made.
        return [run for run in found if run.run_id is not None or run.parent_run_id is not None]

    def bring(self, run: PendingRun) -> None:
        """Raises MlflowException, FilesWait, LedgerUnavailable; nothing is brought twice by that."""
        run_id = run.run_id or self._make(run)
        try:
            self._log(run_id, run.points)
            self._mark(run_id, run)
            if run.complete:
                self._close(run_id, run)
        except MlflowException as error:
            if not is_refusal(error):
                raise
            # The run was deleted on the server, for example. The ledger still has every point.
            if run.id not in self._refused:
                self._refused.add(run.id)
                log.warning("tracking.refused", job=str(run.id), reason=first_line(error))
            self._mark(run_id, run)
        if run.complete:
            with self._ledger.unit_of_work() as session:
                close_run(session, job_id=run.id, run_id=run_id)

    def _make(self, run: PendingRun) -> str:
        assert run.parent_run_id is not None
        origin = self._origin(run)
        found = self._runs.find(run.owner, JOB_TAG, str(run.id))
        if found:
            made = found[0]
        else:
            tags = run_tags(run, origin, parent_run_id=run.parent_run_id)
            name = f"{run.experiment_name}/{run.key}"
            made = self._runs.create(run.owner, name, tags, run.started_at)
        self._describe(made, run, origin)
        with self._ledger.unit_of_work() as session:
            return set_run(session, job_id=run.id, run_id=made)

    def _describe(self, run_id: str, run: PendingRun, origin: Lineage) -> None:
        dataset = f"{origin.dataset}@{origin.revision}"
        try:
            self._runs.log_params(run_id, flattened(run.spec))
            self._runs.log_dataset(
                run_id, name=dataset, fingerprint=origin.fingerprint, context=CONTEXT[run.kind]
            )
        except MlflowException as error:
            if not is_refusal(error):
                raise
            log.warning("tracking.description_refused", job=str(run.id), reason=first_line(error))

    def _log(self, run_id: str, points: Sequence[MetricPoint]) -> None:
        """Of a batch that is refused all but the points at fault are brought."""
        if not points:
            return
        try:
            self._runs.log(run_id, points)
        except MlflowException as error:
            if not is_refusal(error) or not self._runs.is_active(run_id):
                raise
            if len(points) == 1:
                refused = {"key": points[0].key, "step": points[0].step}
                log.warning("tracking.point_refused", **refused, reason=first_line(error))
                return
            half = len(points) // 2
            self._log(run_id, points[:half])
            self._log(run_id, points[half:])

    def _mark(self, run_id: str, run: PendingRun) -> None:
        points = [(point.key, point.step) for point in run.points]
        with self._ledger.unit_of_work() as session:
            mark_projected(session, job_id=run.id, run_id=run_id, points=points)

    def _close(self, run_id: str, run: PendingRun) -> None:
        for twin in self._runs.find(run.owner, JOB_TAG, str(run.id)):
            if twin != run_id:
                self._runs.delete(twin)  # an answer was lost, or two made it at once
        best = _best(run)
        if best:
            self._runs.log(run_id, best)
        links = self._show_files(run_id, run)
        self._runs.set_tags(run_id, closing_tags(run, self._origin(run)) | links)
        self._runs.end(run_id, run.phase, run.finished_at)

    def _show_files(self, run_id: str, run: PendingRun) -> dict[str, str]:
        with self._ledger.unit_of_work() as session:
            stored = reading.artifacts(session, owner=run.owner, job_id=run.id)
        made = [file for file in stored if file.step is None]  # not the checkpoint
        try:
            return self._files.show(run_id, run, made)
        except FilesWait as error:
            if (run.ended_seconds or 0.0) < FILES_PATIENCE_SECONDS:
                raise
            log.warning("tracking.files_given_up", job=str(run.id), reason=str(error))
            return self._files.link(made)

    def _origin(self, run: PendingRun) -> Lineage:
        with self._ledger.unit_of_work() as session:
            return lineage(session, run.id)


def _best(run: PendingRun) -> list[MetricPoint]:
    """The scores of the model that a fit left behind, which are seldom those of its last step."""
    if run.kind != "fit" or run.phase is not Phase.SUCCEEDED or run.result is None:
        return []
    assert run.finished_at is not None
    step = run.result.get("step") or 0
    return [
        MetricPoint(f"best/{key}", step, value, run.finished_at)
        for key, value in run.result.get("metrics", {}).items()
    ]

"""Runs on the tracking server: one for each experiment, below it one for each job.

Runs are found by their tags before they are made, so whoever was interrupted between making a run
and noting its id finds it again.
"""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, Run
from mlflow.exceptions import MlflowException

from worker.ledger.projection import PendingRun
from worker.ledger.states import Phase
from worker.ledger.views import MetricPoint
from worker.tracking.names import accepted_name, flattened

PARAMS_A_BATCH = 100
JOB_TAG = "stillhouse.job_id"
EXPERIMENT_TAG = "stillhouse.experiment_id"
STATUS: Final[dict[Phase, str]] = {
    Phase.SUCCEEDED: "FINISHED",
    Phase.FAILED: "FAILED",
    Phase.CANCELLED: "KILLED",
}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Runs:
    """All calls to the server. Each raises `mlflow.exceptions.MlflowException`."""

    def __init__(self, url: str, experiment: str) -> None:
        self._client = MlflowClient(tracking_uri=url)
        self._experiment = experiment
        self._experiment_id: str | None = None

    def run_of(self, pending: PendingRun) -> str:
        """The id of the job's run, which is made if it is not there."""
        job = pending.job
        found = self._find(JOB_TAG, str(job.id))
        if not found:
            seed = pending.params.get("seed")
            tags = {
                JOB_TAG: str(job.id),
                "mlflow.parentRunId": self._parent_of(pending),
                "stillhouse.experiment": pending.experiment_name,
                "stillhouse.key": pending.key,
                "stillhouse.role": pending.key.rpartition("-")[0] or pending.key,
                "stillhouse.kind": job.kind,
                "stillhouse.owner": pending.owner,
                "stillhouse.dataset": str(pending.params.get("dataset", "")),
                **({} if seed is None else {"stillhouse.seed": str(seed)}),
            }
            name = f"{pending.experiment_name}/{pending.key}"
            found = [self._create(name, tags, job.started_at)]
        self._log_params(found[0].info.run_id, pending)
        return str(found[0].info.run_id)

    def log(self, run_id: str, points: Iterable[MetricPoint]) -> None:
        """At most 1,000. The server keeps one of each (key, step, time, value): again is once."""
        metrics = [
            Metric(accepted_name(point.key), point.value, _milliseconds(point.at), point.step)
            for point in points
        ]
        self._client.log_batch(run_id, metrics=metrics, synchronous=True)

    def log_file(self, run_id: str, file: Path, folder: str) -> None:
        self._client.log_artifact(run_id, str(file), folder)

    def close(self, run_id: str, pending: PendingRun) -> None:
        """Say how the job ended, and drop runs that a lost answer made twice."""
        for run in self._find(JOB_TAG, str(pending.job.id)):
            if run.info.run_id != run_id:
                self._client.delete_run(run.info.run_id)
        self._terminate(run_id, pending.job.phase, pending.job.finished_at)

    def close_parent(self, pending: PendingRun, phase: Phase, ended_at: datetime | None) -> None:
        for run in self._find(EXPERIMENT_TAG, str(pending.experiment_id)):
            self._terminate(run.info.run_id, phase, ended_at)

    def _parent_of(self, pending: PendingRun) -> str:
        found = self._find(EXPERIMENT_TAG, str(pending.experiment_id))
        if not found:
            tags = {EXPERIMENT_TAG: str(pending.experiment_id), "stillhouse.owner": pending.owner}
            found = [self._create(pending.experiment_name, tags, pending.job.created_at)]
        return str(found[0].info.run_id)

    def _find(self, tag: str, value: str) -> list[Run]:
        """The oldest first."""
        return self._client.search_runs(
            [self._home()],
            filter_string=f"tags.`{tag}` = '{value}'",
            order_by=["attributes.start_time ASC"],
        )

    def _create(self, name: str, tags: dict[str, str], started_at: datetime | None) -> Run:
        return self._client.create_run(
            self._home(),
            start_time=None if started_at is None else _milliseconds(started_at),
            tags=tags,
            run_name=name,
        )

    def _log_params(self, run_id: str, pending: PendingRun) -> None:
        params = [Param(name, value) for name, value in flattened(pending.params).items()]
        for start in range(0, len(params), PARAMS_A_BATCH):
            some = params[start : start + PARAMS_A_BATCH]
            self._client.log_batch(run_id, params=some, synchronous=True)

    def _terminate(self, run_id: str, phase: Phase, ended_at: datetime | None) -> None:
        end_time = None if ended_at is None else _milliseconds(ended_at)
        self._client.set_terminated(run_id, status=STATUS[phase], end_time=end_time)

    def _home(self) -> str:
        """The id of the MLflow experiment that holds all runs."""
        if self._experiment_id is None:
            self._experiment_id = self._find_home() or self._make_home()
        return self._experiment_id

    def _find_home(self) -> str | None:
        found = self._client.get_experiment_by_name(self._experiment)
        return None if found is None else found.experiment_id

    def _make_home(self) -> str:
        try:
            return self._client.create_experiment(self._experiment)
        except MlflowException:
            # Somebody else made it meanwhile; if not, it was the server that failed.
            found = self._find_home()
            if found is None:
                raise
            return found


def _milliseconds(moment: datetime) -> int:
    """Since 1970, rounded down: the same for the same stored moment, however often it is sent."""
    return (moment - _EPOCH) // timedelta(milliseconds=1)

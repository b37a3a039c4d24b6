"""Runs on the tracking server.

They are found by a tag before they are made, so whoever was interrupted between making a run and
noting its id finds it again.
"""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag

from worker.ledger.states import Phase
from worker.ledger.views import MetricPoint
from worker.tracking.homes import Homes
from worker.tracking.names import accepted_name

ENTITIES_A_BATCH: Final = 100
"""Parameters or tags."""
DIGEST_LENGTH: Final = 36
PROXIED: Final = ("mlflow-artifacts:", "http:", "https:")
STATUS: Final[dict[Phase, str]] = {
    Phase.SUCCEEDED: "FINISHED",
    Phase.FAILED: "FAILED",
    Phase.CANCELLED: "KILLED",
}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Runs:
    """The calls to the server. Each raises `mlflow.exceptions.MlflowException`."""

    def __init__(self, client: MlflowClient, homes: Homes) -> None:
        self._client = client
        self._homes = homes

    def find(self, owner: str, tag: str, value: str) -> list[str]:
        """Ids of the runs with this tag, the oldest first."""
        runs = self._client.search_runs(
            [self._homes.of(owner)],
            filter_string=f"tags.`{tag}` = '{value}'",
            order_by=["attributes.start_time ASC", "attributes.run_id ASC"],
        )
        return [str(run.info.run_id) for run in runs]

    def create(self, owner: str, name: str, tags: Mapping[str, str], started_at: datetime) -> str:
        run = self._client.create_run(
            self._homes.of(owner),
            start_time=_milliseconds(started_at),
            tags=dict(tags),
            run_name=name,
        )
        return str(run.info.run_id)

    def delete(self, run_id: str) -> None:
        self._client.delete_run(run_id)

    def log(self, run_id: str, points: Iterable[MetricPoint]) -> None:
        """At most 1,000. The server keeps one of each (key, step, time, value): again is once."""
        metrics = [
            Metric(accepted_name(point.key), point.value, _milliseconds(point.at), point.step)
            for point in points
        ]
        self._client.log_batch(run_id, metrics=metrics, synchronous=True)

    def log_params(self, run_id: str, params: Mapping[str, str]) -> None:
        entities = [Param(name, value) for name, value in params.items()]
        for start in range(0, len(entities), ENTITIES_A_BATCH):
            some = entities[start : start + ENTITIES_A_BATCH]
            self._client.log_batch(run_id, params=some, synchronous=True)

    def log_dataset(self, run_id: str, *, name: str, fingerprint: str, context: str) -> None:
        """``context`` is what the run does with it, such as ``training``."""
        dataset = Dataset(name, fingerprint[:DIGEST_LENGTH], "stillhouse", f"sha256:{fingerprint}")
        tags = [InputTag("mlflow.data.context", context)]
        self._client.log_inputs(run_id, datasets=[DatasetInput(dataset, tags)])

    def set_tags(self, run_id: str, tags: Mapping[str, str]) -> None:
        entities = [RunTag(name, value) for name, value in tags.items()]
        for start in range(0, len(entities), ENTITIES_A_BATCH):
            some = entities[start : start + ENTITIES_A_BATCH]
            self._client.log_batch(run_id, tags=some, synchronous=True)

    def is_active(self, run_id: str) -> bool:
        """It has not been deleted."""
        return bool(self._client.get_run(run_id).info.lifecycle_stage == "active")

    def takes_files(self, run_id: str) -> bool:
        """Only a server that stores them itself: the keys of its storage are no worker's."""
        uri = self._client.get_run(run_id).info.artifact_uri
        return uri is not None and uri.startswith(PROXIED)

    def log_file(self, run_id: str, file: Path, folder: str) -> None:
        """Again replaces it. Raises `OSError` too."""
        self._client.log_artifact(run_id, str(file), folder)

    def reopen(self, run_id: str) -> None:
        self._client.update_run(run_id, status="RUNNING")

    def end(self, run_id: str, phase: Phase, ended_at: datetime | None) -> None:
        end_time = None if ended_at is None else _milliseconds(ended_at)
        self._client.set_terminated(run_id, status=STATUS[phase], end_time=end_time)


def _milliseconds(moment: datetime) -> int:
    """Since 1970, rounded down: the same for the same stored moment, however often it is sent."""
    return (moment - _EPOCH) // timedelta(milliseconds=1)

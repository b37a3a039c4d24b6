"""What the ledger has, what the server shows, and bringing the one to the other."""

from contextlib import suppress
from typing import Any
from uuid import UUID

from mlflow import MlflowClient
from mlflow.entities import Run, ViewType
from mlflow.exceptions import MlflowException

from kdcore.spec import Outcome
from tests.worker.ledger import making
from tests.worker.supervisor.bench import Bench, until
from worker.ledger.jobs import Claim
from worker.tracking.projector import Projector
from worker.tracking.tags import EXPERIMENT_TAG, JOB_TAG

LACKS = """
SELECT (SELECT count(*) FROM metrics WHERE projected_at IS NULL)
     + (SELECT count(*) FROM jobs WHERE finished_at IS NOT NULL AND attempt > 0 AND NOT run_closed)
     + (SELECT count(*) FROM model_versions WHERE mlflow_version IS NULL)
     + (SELECT count(*) FROM model_aliases WHERE told_number IS DISTINCT FROM number)
     + (SELECT count(*) FROM experiment_jobs JOIN jobs ON job_id = jobs.id
        WHERE mlflow_run_id IS NOT NULL AND told_job_id IS DISTINCT FROM job_id)
     + (SELECT count(*) FROM experiments WHERE NOT run_closed AND NOT EXISTS (
           SELECT FROM jobs JOIN experiment_jobs ON job_id = jobs.id
           WHERE experiment_id = experiments.id AND finished_at IS NULL))
"""


def started(bench: Bench, **changes: Any) -> Claim:
    """The first job of an experiment, in the hands of a worker."""
    making.register(bench.ledger)
    making.submit(bench.ledger, making.training(**changes))
    return making.take(bench.ledger)


def succeed(bench: Bench, claim: Claim, *, weights: bytes = b"{}") -> None:
    """With files that are in the store."""
    files = {}
    for path in making.MODEL_FILES:
        made = bench.folder / "made"
        made.write_bytes(weights if path.endswith(".safetensors") else b"{}")
        files[path] = bench.store.put(made)
    outcome = Outcome(status="succeeded", step=3, metrics={"val/miou": 0.5})
    making.end(bench.ledger, claim, outcome, files=files)


def drain(projector: Projector) -> None:
    while projector.project():
        pass


def settle(projector: Projector, bench: Bench) -> None:
    """Round after round, whatever fails, until the server lacks nothing."""

    def settled() -> bool:
        with suppress(MlflowException):
            projector.project()
        return bench.rows(LACKS) == [(0,)]

    until(settled, seconds=60)


def projected(bench: Bench, job_id: UUID) -> int:
    [(count,)] = bench.rows(
        "SELECT count(*) FROM metrics WHERE job_id = :id AND projected_at IS NOT NULL", id=job_id
    )
    return int(count)


def stored_points(bench: Bench, job_id: UUID) -> list[tuple[Any, ...]]:
    return bench.rows(
        "SELECT key, step, value, floor(extract(epoch FROM at) * 1000)::bigint FROM metrics "
        "WHERE job_id = :id ORDER BY key, step",
        id=job_id,
    )


def points(client: MlflowClient, run: Run) -> list[tuple[Any, ...]]:
    """Without the scores of the best model, which the ledger keeps with the result."""
    return sorted(
        (point.key, point.step, point.value, point.timestamp)
        for key in run.data.metrics
        if not key.startswith("best/")
        for point in client.get_metric_history(run.info.run_id, key)
    )


def only_run(client: MlflowClient, home: str, job_id: UUID) -> Run:
    return _tagged(client, home, JOB_TAG, job_id)


def parent(client: MlflowClient, home: str, experiment_id: UUID) -> Run:
    return _tagged(client, home, EXPERIMENT_TAG, experiment_id)


def all_runs(client: MlflowClient, home: str) -> list[Run]:
    experiment = client.get_experiment_by_name(home)
    assert experiment is not None
    return list(client.search_runs([experiment.experiment_id], run_view_type=ViewType.ACTIVE_ONLY))


def _tagged(client: MlflowClient, home: str, tag: str, id: UUID) -> Run:
    [run] = [run for run in all_runs(client, home) if run.data.tags.get(tag) == str(id)]
    return run

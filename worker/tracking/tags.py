"""What a run or a model version on the tracking server says of where it comes from."""

from collections.abc import Iterable
from typing import Any, Final
from uuid import UUID

from worker.ledger.experiment_runs import PendingExperiment
from worker.ledger.lineage import Lineage
from worker.ledger.mirroring import PendingVersion
from worker.ledger.projection import PendingRun
from worker.tracking.names import accepted_name

PREFIX: Final = "stillhouse."
JOB_TAG: Final = f"{PREFIX}job_id"
EXPERIMENT_TAG: Final = f"{PREFIX}experiment_id"
EXPERIMENTS_TAG: Final = f"{PREFIX}experiment_ids"
MODEL_TAG: Final = f"{PREFIX}model_id"
VERSION_TAG: Final = f"{PREFIX}version_id"
PARENT_TAG: Final = "mlflow.parentRunId"
NOTE_TAG: Final = "mlflow.note.content"
CLASS: Final = "/iou/"
"""In the keys of metrics that are of one class."""
VALUE_LENGTH_MAX: Final = 5000
UUID_LENGTH: Final = 37
"""With its comma."""


def run_tags(run: PendingRun, origin: Lineage, *, parent_run_id: str) -> dict[str, str]:
    """Of a job's run when it is made; some change with a later attempt: `closing_tags`."""
    return _filled(
        {
            PARENT_TAG: parent_run_id,
            JOB_TAG: run.id,
            EXPERIMENTS_TAG: experiments_tag(run.experiment_ids),
            "stillhouse.experiment": run.experiment_name,
            "stillhouse.key": run.key,
            "stillhouse.role": run.key.rpartition("-")[0] or run.key,
            "stillhouse.seed": run.spec.get("seed"),
            "stillhouse.kind": run.kind,
            **_owned_by(run.owner),
            **_origin(origin),
        }
    )


def closing_tags(run: PendingRun, origin: Lineage) -> dict[str, str]:
    """How the job ended, and what code ran the attempt that counts."""
    return _filled(
        {
            "stillhouse.phase": run.phase.value,
            "stillhouse.reason": run.reason,
            "stillhouse.message": run.message,
            "stillhouse.attempts": run.attempt,
            "stillhouse.worker": run.worker,
            **_code(origin.build),
        }
    )


def experiment_tags(experiment: PendingExperiment) -> dict[str, str]:
    return _filled(
        {
            EXPERIMENT_TAG: experiment.id,
            "stillhouse.experiment": experiment.name,
            "stillhouse.kind": experiment.kind,
            "stillhouse.dataset": experiment.fingerprint,
            "stillhouse.dataset_revision": experiment.dataset,
            **_owned_by(experiment.owner),
        }
    )


def experiments_tag(ids: Iterable[UUID]) -> str:
    """All experiments that share a job; of very many the newest."""
    newest = [str(id) for id in ids][-(VALUE_LENGTH_MAX // UUID_LENGTH) :]
    return ",".join(newest)


def model_tags(version: PendingVersion) -> dict[str, str]:
    return _filled({MODEL_TAG: version.model_id, "stillhouse.owner": version.owner})


def version_tags(version: PendingVersion, origin: Lineage) -> dict[str, str]:
    return _filled(
        {
            VERSION_TAG: version.id,
            "stillhouse.version": version.number,
            "stillhouse.digest": version.digest,
            JOB_TAG: version.job_id,
            "stillhouse.owner": version.owner,
            **_origin(origin),
            **{key: f"{value:.6g}" for key, value in version.metrics.items() if CLASS not in key},
        }
    )


def _origin(origin: Lineage) -> dict[str, Any]:
    tags: dict[str, Any] = {
        "stillhouse.dataset": origin.fingerprint,
        "stillhouse.dataset_revision": f"{origin.dataset}@{origin.revision}",
        **_code(origin.build),
    }
    for name, source in origin.inputs.items():
        tags[f"stillhouse.input.{name}"] = source.digest
        tags[f"stillhouse.input.{name}.job_id"] = source.job_id
        if source.model is not None:
            tags[f"stillhouse.input.{name}.model"] = f"models:/{source.model}/{source.number}"
    return tags


def _code(build: dict[str, str]) -> dict[str, str | None]:
    return {
        **{f"stillhouse.build.{name}": value for name, value in build.items()},
        "mlflow.source.git.commit": build.get("git_sha"),
    }


def _owned_by(owner: str) -> dict[str, str]:
    return {
        "stillhouse.owner": owner,
        "mlflow.user": owner,
        "mlflow.source.name": "stillhouse",
        "mlflow.source.type": "JOB",
    }


def _filled(tags: dict[str, Any]) -> dict[str, str]:
    """Those with a value, as text that the server accepts."""
    return {
        accepted_name(name): str(value)[:VALUE_LENGTH_MAX]
        for name, value in tags.items()
        if value is not None and value != ""
    }

"""Small real experiments, and the moves of a worker, each in a transaction of its own."""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import text

from kdcore.spec import (
    DatasetManifest,
    DatasetSource,
    Event,
    Experiment,
    Failure,
    FailureKind,
    Outcome,
    digest,
    event_adapter,
    experiment_adapter,
)
from worker.ledger import FileRef, Ledger, Phase, datasets, experiments, jobs, reading
from worker.ledger.views import JobView

OWNER = "ada"
STRANGER = "eve"
LEASE = 30.0
SHA = "0123456789abcdef" * 4
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
MODEL_FILES = {
    "model/model.safetensors": FileRef(SHA, 1000),
    "model/model.json": FileRef(SHA[::-1], 10),
}
TRAIN = {"size": [64, 64], "batch": 2, "steps": 20}
UNET = {"arch": "unet", "encoder": "resnet18"}
SMALL = {"arch": "unet", "encoder": "mobilenet_v2"}


def register(
    ledger: Ledger, *, owner: str = OWNER, name: str = "nuclei", content: str = SHA
) -> datasets.Revision:
    with ledger.unit_of_work() as session:
        revision, _ = datasets.register(
            session, owner=owner, source=source(name), manifest=manifest(content)
        )
    return revision


def source(name: str = "nuclei") -> DatasetSource:
    classes = [{"name": "ground"}, {"name": "nucleus"}]
    return DatasetSource.model_validate({"name": name, "root": "data", "classes": classes})


def manifest(content: str = SHA) -> DatasetManifest:
    file = {"path": "train/images/a.png", "sha256": content, "size": 5}
    mask = {"path": "train/masks/a.png", "sha256": content, "size": 3}
    sample = {"id": "a", "image": file, "mask": mask, "height": 4, "width": 4}
    return DatasetManifest.model_validate(
        {
            "classes": [{"name": "ground"}, {"name": "nucleus"}],
            "ignore_index": 255,
            "splits": {"train": [sample], "val": [sample]},
            "statistics": {"train": {"class_pixels": [10, 6], "ignored_pixels": 0}},
        }
    )


def training(**changes: Any) -> Experiment:
    """Two jobs: `model-0` and its `verdict`."""
    spec = {"kind": "training", "name": "plain", "dataset": "nuclei", "model": UNET, "train": TRAIN}
    return experiment_adapter.validate_python({**spec, **changes})


def distillation(**changes: Any) -> Experiment:
    """Four jobs: `teacher-big`, `baseline-0`, `distilled-0`, `verdict`."""
    spec = {
        "kind": "distillation",
        "name": "demo",
        "dataset": "nuclei",
        "teachers": [{"name": "big", "train": {"model": UNET, "train": TRAIN}}],
        "student": {"model": SMALL},
        "objective": [{"kind": "ce"}, {"kind": "kd", "temperature": 2}],
        "train": TRAIN,
    }
    return experiment_adapter.validate_python({**spec, **changes})


def submit(
    ledger: Ledger,
    experiment: Experiment,
    *,
    owner: str = OWNER,
    key: str | None = None,
    **more: Any,
) -> UUID:
    with ledger.unit_of_work() as session:
        submission = experiments.submit(
            session,
            owner=owner,
            experiment=experiment,
            request_digest=digest(experiment.to_json()),
            idempotency_key=key,
            **more,
        )
    return submission.experiment_id


def jobs_of(ledger: Ledger, experiment_id: UUID, *, owner: str = OWNER) -> dict[str, JobView]:
    with ledger.unit_of_work() as session:
        shown = experiments.get_experiment(session, owner=owner, id=experiment_id)
    return {job.key: job for job in shown.jobs if job.key is not None}


def phases(ledger: Ledger, experiment_id: UUID) -> dict[str, Phase]:
    return {key: job.phase for key, job in jobs_of(ledger, experiment_id).items()}


def job(ledger: Ledger, job_id: UUID, *, owner: str = OWNER) -> JobView:
    with ledger.unit_of_work() as session:
        return reading.get_job(session, owner=owner, id=job_id)


def take(ledger: Ledger, **more: Any) -> jobs.Claim:
    found = try_take(ledger, **more)
    assert found is not None, "nothing to claim"
    return found


def try_take(
    ledger: Ledger,
    *,
    worker: str = "w1",
    lease: float = LEASE,
    queues: Sequence[str] = ("cpu",),
    offer: jobs.Offer | None = None,
) -> jobs.Claim | None:
    """Without an ``offer`` the worker has one CPU slot free."""
    with ledger.unit_of_work() as session:
        return jobs.claim(
            session,
            worker=worker,
            queues=queues,
            lease_seconds=lease,
            offer=offer or jobs.Offer(),
        )


def end(
    ledger: Ledger,
    claim: jobs.Claim,
    outcome: Outcome,
    *,
    files: Mapping[str, FileRef] | None = None,
    verdict: Mapping[str, Any] | None = None,
) -> Phase:
    with ledger.unit_of_work() as session:
        return jobs.finish(
            session,
            job_id=claim.job_id,
            attempt=claim.attempt,
            outcome=outcome,
            files={} if files is None else files,
            exit_status=0,
            verdict=verdict,
        )


def succeed(ledger: Ledger, claim: jobs.Claim, *, metrics: dict[str, float] | None = None) -> Phase:
    outcome = Outcome(status="succeeded", step=20, metrics=metrics or {"val/miou": 0.5})
    if claim.kind == "fit":
        return end(ledger, claim, outcome, files=MODEL_FILES)
    report = {"report/verdict.json": FileRef(SHA, 7)}
    return end(ledger, claim, outcome, files=report, verdict={"gain": 0.1})


def fail(ledger: Ledger, claim: jobs.Claim, kind: FailureKind = FailureKind.CODE_ERROR) -> Phase:
    failure = Failure(kind=kind, message="it broke", field="train.steps", remedy="mend it")
    return end(ledger, claim, Outcome(status="failed", failure=failure))


def interrupt(ledger: Ledger, claim: jobs.Claim) -> Phase:
    return end(ledger, claim, Outcome(status="interrupted"))


def publish(
    ledger: Ledger, claim: jobs.Claim, step: int, *, content: str = SHA, size: int = 100
) -> None:
    folder = f"checkpoints/step-{step:08d}"
    files = {f"{folder}/{name}": FileRef(content, size) for name in ("state.pt", "manifest.json")}
    with ledger.unit_of_work() as session:
        jobs.publish(session, job_id=claim.job_id, attempt=claim.attempt, files=files, step=step)


def relay(
    ledger: Ledger, claim: jobs.Claim, events: Sequence[Event], *, upto: int | None = None
) -> jobs.Directive:
    with ledger.unit_of_work() as session:
        return jobs.relay(
            session,
            job_id=claim.job_id,
            attempt=claim.attempt,
            events=events,
            lease_seconds=LEASE,
            upto=upto,
        )


def progress(step: int, steps: int = 20) -> Event:
    return event_adapter.validate_python(
        {
            "type": "progress",
            "at": NOW,
            "stage": "training",
            "step": step,
            "steps": steps,
            "remaining_seconds": 1.5,
        }
    )


def metric(step: int, **values: float) -> Event:
    return event_adapter.validate_python(
        {"type": "metric", "at": NOW, "step": step, "values": values}
    )


def rescue(ledger: Ledger) -> list[UUID]:
    with ledger.unit_of_work() as session:
        return jobs.rescue(session)


def heartbeat(ledger: Ledger, claim: jobs.Claim, *, lease: float = LEASE) -> jobs.Directive:
    with ledger.unit_of_work() as session:
        return jobs.heartbeat(
            session, job_id=claim.job_id, attempt=claim.attempt, lease_seconds=lease
        )


def cancel(ledger: Ledger, job_id: UUID) -> JobView:
    with ledger.unit_of_work() as session:
        return jobs.cancel_job(session, owner=OWNER, id=job_id)


def pause(ledger: Ledger, job_id: UUID) -> JobView:
    with ledger.unit_of_work() as session:
        return jobs.pause_job(session, owner=OWNER, id=job_id)


def resume(ledger: Ledger, job_id: UUID) -> JobView:
    with ledger.unit_of_work() as session:
        return jobs.resume_job(session, owner=OWNER, id=job_id)


def retry(ledger: Ledger, job_id: UUID) -> JobView:
    with ledger.unit_of_work() as session:
        return jobs.retry_job(session, owner=OWNER, id=job_id)


def steer(
    ledger: Ledger, action: Callable[..., experiments.ExperimentView], experiment_id: UUID
) -> experiments.ExperimentView:
    """``action`` is `cancel_experiment`, `get_experiment` or another of their kind."""
    with ledger.unit_of_work() as session:
        return action(session, owner=OWNER, id=experiment_id)


def experiment(ledger: Ledger, experiment_id: UUID) -> experiments.ExperimentView:
    return steer(ledger, experiments.get_experiment, experiment_id)


def expire(ledger: Ledger) -> list[UUID]:
    with ledger.unit_of_work() as session:
        return jobs.expire(session)


def events(ledger: Ledger, job_id: UUID) -> list[reading.EventView]:
    with ledger.unit_of_work() as session:
        return reading.events_after(session, owner=OWNER, job_id=job_id, after=0, limit=1000)


def event_types(ledger: Ledger, job_id: UUID) -> list[str]:
    return [event.type for event in events(ledger, job_id)]


def expire_lease(ledger: Ledger, job_id: UUID) -> None:
    """As if the lease had been granted long ago; nothing waits."""
    _change(ledger, "lease_until = now() - interval '1 second'", job_id)


def let_wait(ledger: Ledger, job_id: UUID, minutes: float) -> None:
    """As if the job had been queued so long before."""
    earlier = f"interval '{minutes} minutes'"
    _change(ledger, f"queued_at = queued_at - {earlier}, turn_at = turn_at - {earlier}", job_id)


def let_pass_delay(ledger: Ledger, job_id: UUID) -> None:
    _change(ledger, "not_before = now() - interval '1 second'", job_id)


def _change(ledger: Ledger, assignment: str, job_id: UUID) -> None:
    with ledger.unit_of_work() as session:
        session.execute(text(f"UPDATE jobs SET {assignment} WHERE id = :id"), {"id": job_id})

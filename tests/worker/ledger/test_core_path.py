"""From a submission to a verdict, as a worker walks it."""

import pytest

from kdcore.spec import digest
from tests.worker.ledger import making
from worker.ledger import FileRef, Ledger, NotFound, Phase, experiments, models, reading


def test_distillation_from_submission_to_verdict(ledger: Ledger) -> None:
    revision = making.register(ledger)
    experiment_id = making.submit(ledger, making.distillation())
    assert making.phases(ledger, experiment_id) == {
        "teacher-big": Phase.QUEUED,
        "baseline-0": Phase.QUEUED,
        "distilled-0": Phase.WAITING,
        "verdict": Phase.WAITING,
    }
    first = making.take(ledger)
    second = making.take(ledger)
    assert making.try_take(ledger) is None
    assert first.manifest.fingerprint() == revision.fingerprint
    assert {making.succeed(ledger, first), making.succeed(ledger, second)} == {Phase.SUCCEEDED}

    distilled = making.take(ledger)
    expected = {
        "model.safetensors": FileRef(making.SHA, 1000),
        "model.json": FileRef(making.SHA[::-1], 10),
    }
    assert distilled.inputs == {"inputs/models/teacher-big": expected}
    making.succeed(ledger, distilled)
    verdict = making.take(ledger)
    assert verdict.kind == "compare"
    assert verdict.inputs.keys() == {
        "inputs/models/teacher-big",
        "inputs/models/baseline-0",
        "inputs/models/distilled-0",
    }
    making.succeed(ledger, verdict)

    with ledger.unit_of_work() as session:
        shown = experiments.get_experiment(session, owner=making.OWNER, id=experiment_id)
        compared = reading.comparison(session, owner=making.OWNER, experiment_id=experiment_id)
    assert shown.phase is Phase.SUCCEEDED
    assert shown.finished_at is not None
    assert (shown.dataset, shown.revision, shown.fingerprint) == ("nuclei", 1, revision.fingerprint)
    assert compared.verdict == {"gain": 0.1}
    assert [file.path for file in compared.artifacts] == ["report/verdict.json"]


def test_succeeded_fits_become_model_versions(ledger: Ledger) -> None:
    making.register(ledger)
    experiment_id = making.submit(ledger, making.distillation(seeds=[0, 1]))
    for _ in range(6):
        making.succeed(ledger, making.take(ledger), metrics={"val/miou": 0.75})
    with ledger.unit_of_work() as session:
        page = models.list_models(session, owner=making.OWNER)
        version = models.resolve(session, owner=making.OWNER, ref="models:/demo-distilled@latest")
        detail = models.get_model(session, owner=making.OWNER, name="demo-distilled")
    counts = {model.name: (model.versions, model.latest) for model in page.items}
    assert counts == {"demo-teacher-big": (1, 1), "demo-baseline": (2, 2), "demo-distilled": (2, 2)}
    assert [version.number for version in detail.versions] == [2, 1]
    assert version == detail.versions[0]
    assert version.metrics == {"val/miou": 0.75}
    assert version.digest == digest(
        {"model.safetensors": making.SHA, "model.json": making.SHA[::-1]}
    )
    by_id = {job.id: key for key, job in making.jobs_of(ledger, experiment_id).items()}
    assert {by_id[version.job_id] for version in detail.versions} == {"distilled-0", "distilled-1"}


def test_a_student_distilled_without_the_pool_is_a_model_of_its_own(ledger: Ledger) -> None:
    making.register(ledger)
    pool = {"share": 0.5, "compare_without": True}
    experiment_id = making.submit(ledger, making.distillation(unlabelled=pool))
    shown = making.jobs_of(ledger, experiment_id)
    assert shown["distilled-without-pool-0"].role == "distilled_without_pool"
    for _ in range(4):
        making.succeed(ledger, making.take(ledger))
    assert making.phases(ledger, experiment_id)["verdict"] is Phase.QUEUED
    assert _versions(ledger) == {
        "demo-teacher-big": ["teacher-big"],
        "demo-baseline": ["baseline-0"],
        "demo-distilled": ["distilled-0"],
        "demo-distilled-without-pool": ["distilled-without-pool-0"],
    }
    # Whoever distils without a pool in the first place asks for that very run: there it is the student.
    plain_id = making.submit(ledger, making.distillation(name="plain"))
    reused = making.jobs_of(ledger, plain_id)["distilled-0"]
    assert reused.id == shown["distilled-without-pool-0"].id
    assert _versions(ledger)["plain-distilled"] == ["distilled-without-pool-0"]


def _versions(ledger: Ledger) -> dict[str, list[str]]:
    """Model to the keys, in its first experiment, of the jobs that made its versions."""
    with ledger.unit_of_work() as session:
        names = [model.name for model in models.list_models(session, owner=making.OWNER).items]
        made = {
            name: models.get_model(session, owner=making.OWNER, name=name).versions
            for name in names
        }
        first = experiments.list_experiments(session, owner=making.OWNER).items[-1]
    keys = {job.id: key for key, job in making.jobs_of(ledger, first.id).items()}
    return {name: [keys[one.job_id] for one in versions] for name, versions in made.items()}


def test_attempts_and_events_of_a_job_are_kept(ledger: Ledger) -> None:
    making.register(ledger)
    making.submit(ledger, making.training())
    claim = making.take(ledger, worker="w7")
    making.interrupt(ledger, claim)
    making.succeed(ledger, making.take(ledger, worker="w8"))
    assert making.event_types(ledger, claim.job_id) == [
        "job.submitted",
        "job.claimed",
        "job.retried",
        "job.claimed",
        "job.succeeded",
    ]
    with ledger.unit_of_work() as session:
        kept = reading.attempts(session, owner=making.OWNER, job_id=claim.job_id)
    assert [(attempt.number, attempt.worker, attempt.ended_as) for attempt in kept] == [
        (1, "w7", "interrupted"),
        (2, "w8", "succeeded"),
    ]
    assert all(attempt.ended_at is not None for attempt in kept)


def test_others_see_nothing(ledger: Ledger) -> None:
    making.register(ledger)
    experiment_id = making.submit(ledger, making.training())
    job_id = making.jobs_of(ledger, experiment_id)["verdict"].id
    stranger = making.STRANGER
    with ledger.unit_of_work() as session:
        with pytest.raises(NotFound):
            experiments.get_experiment(session, owner=stranger, id=experiment_id)
        with pytest.raises(NotFound):
            reading.comparison(session, owner=stranger, experiment_id=experiment_id)
        assert experiments.list_experiments(session, owner=stranger).items == []
        assert reading.list_jobs(session, owner=stranger, experiment_id=experiment_id).items == []
    with pytest.raises(NotFound):
        making.job(ledger, job_id, owner=stranger)

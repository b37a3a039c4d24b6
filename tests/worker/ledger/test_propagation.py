"""What an end means for the jobs behind it, and for experiments that share a job."""

from uuid import UUID

import pytest

from kdcore.spec import FailureKind, Outcome
from tests.worker.ledger import making
from worker.ledger import Ledger, NotAllowedNow, NotFound, Phase, experiments, jobs
from worker.ledger.propagation import INPUT_FAILED


def take_key(ledger: Ledger, experiment_id: UUID, key: str) -> jobs.Claim:
    """Claims until it holds the job of this key; the others go back to the queue."""
    wanted = making.jobs_of(ledger, experiment_id)[key].id
    held = []
    while (claim := making.take(ledger)).job_id != wanted:
        held.append(claim)
    for other in held:
        making.interrupt(ledger, other)
    return claim


def test_a_failed_source_cancels_all_behind_it(ledger: Ledger) -> None:
    making.register(ledger)
    experiment_id = making.submit(ledger, making.distillation())
    teacher = take_key(ledger, experiment_id, "teacher-big")
    assert making.fail(ledger, teacher) is Phase.FAILED
    shown = making.jobs_of(ledger, experiment_id)
    assert {key: job.phase for key, job in shown.items()} == {
        "teacher-big": Phase.FAILED,
        "baseline-0": Phase.QUEUED,
        "distilled-0": Phase.CANCELLED,
        "verdict": Phase.CANCELLED,
    }
    assert shown["distilled-0"].reason == shown["verdict"].reason == INPUT_FAILED
    assert shown["teacher-big"].failure == {
        "kind": "code_error",
        "message": "it broke",
        "field": "train.steps",
        "remedy": "mend it",
    }
    making.succeed(ledger, making.take(ledger))
    with ledger.unit_of_work() as session:
        ended = experiments.get_experiment(session, owner=making.OWNER, id=experiment_id)
    assert ended.phase is Phase.FAILED
    assert ended.finished_at is not None


def test_a_dependent_waits_for_all_its_sources(ledger: Ledger) -> None:
    making.register(ledger)
    experiment_id = making.submit(ledger, making.training(seeds=[0, 1]))
    making.succeed(ledger, making.take(ledger))
    assert making.phases(ledger, experiment_id)["verdict"] is Phase.WAITING
    making.succeed(ledger, making.take(ledger))
    assert making.phases(ledger, experiment_id)["verdict"] is Phase.QUEUED


def test_cancelling_a_queued_job_cancels_all_behind_it(ledger: Ledger) -> None:
    making.register(ledger)
    experiment_id = making.submit(ledger, making.distillation())
    teacher = making.jobs_of(ledger, experiment_id)["teacher-big"]
    assert making.cancel(ledger, teacher.id).phase is Phase.CANCELLED
    shown = making.jobs_of(ledger, experiment_id)
    assert shown["teacher-big"].reason == "cancelled"
    assert shown["distilled-0"].phase is shown["verdict"].phase is Phase.CANCELLED
    assert shown["baseline-0"].phase is Phase.QUEUED
    with pytest.raises(NotAllowedNow):
        making.cancel(ledger, teacher.id)


def test_cancelling_a_foreign_job_finds_nothing(ledger: Ledger) -> None:
    making.register(ledger)
    job_id = making.jobs_of(ledger, making.submit(ledger, making.training()))["verdict"].id
    with pytest.raises(NotFound), ledger.unit_of_work() as session:
        jobs.cancel_job(session, owner=making.STRANGER, id=job_id)


def test_cancelling_an_experiment_spares_what_others_want(ledger: Ledger) -> None:
    making.register(ledger)
    distilling = making.submit(ledger, making.distillation())
    other = making.submit(ledger, making.distillation(name="other", baseline=False))
    shared = making.jobs_of(ledger, other)["teacher-big"]
    assert shared.reused

    assert cancel_experiment(ledger, distilling) is Phase.CANCELLED
    assert making.phases(ledger, distilling) == {
        "teacher-big": Phase.QUEUED,
        "baseline-0": Phase.CANCELLED,
        "distilled-0": Phase.WAITING,
        "verdict": Phase.CANCELLED,
    }
    assert cancel_experiment(ledger, other) is Phase.CANCELLED
    assert set(making.phases(ledger, other).values()) == {Phase.CANCELLED}
    with pytest.raises(NotAllowedNow):
        cancel_experiment(ledger, other)


def test_a_cancelled_experiment_ends_when_its_running_job_does(ledger: Ledger) -> None:
    making.register(ledger)
    experiment_id = making.submit(ledger, making.training())
    claim = making.take(ledger)
    assert cancel_experiment(ledger, experiment_id) is Phase.RUNNING
    assert cancel_experiment(ledger, experiment_id) is Phase.RUNNING
    assert making.event_types(ledger, claim.job_id).count("job.cancel_requested") == 1
    making.interrupt(ledger, claim)
    with ledger.unit_of_work() as session:
        shown = experiments.get_experiment(session, owner=making.OWNER, id=experiment_id)
    assert shown.phase is Phase.CANCELLED
    assert shown.finished_at is not None


def test_a_rescued_job_that_was_to_be_cancelled_is_cancelled(ledger: Ledger) -> None:
    making.register(ledger)
    experiment_id = making.submit(ledger, making.training())
    claim = making.take(ledger)
    making.cancel(ledger, claim.job_id)
    making.expire_lease(ledger, claim.job_id)
    assert making.rescue(ledger) == [claim.job_id]
    assert set(making.phases(ledger, experiment_id).values()) == {Phase.CANCELLED}


def test_a_fit_without_a_model_has_not_succeeded(ledger: Ledger) -> None:
    making.register(ledger)
    making.submit(ledger, making.training())
    claim = making.take(ledger)
    assert making.end(ledger, claim, Outcome(status="succeeded")) is Phase.QUEUED
    assert making.job(ledger, claim.job_id).reason == FailureKind.TRAINER_GARBLED


def cancel_experiment(ledger: Ledger, experiment_id: UUID) -> Phase:
    with ledger.unit_of_work() as session:
        return experiments.cancel_experiment(session, owner=making.OWNER, id=experiment_id).phase

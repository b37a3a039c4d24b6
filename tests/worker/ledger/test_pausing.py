"""Pausing and resuming jobs and experiments."""

from uuid import UUID

import pytest

from kdcore.spec import FailureKind
from tests.worker.ledger import making
from worker.ledger import Ledger, NotAllowedNow, NotFound, Phase, experiments, jobs
from worker.ledger.experiments import cancel_experiment, pause_experiment, resume_experiment
from worker.ledger.jobs import Directive


def test_a_queued_job_is_not_claimed_until_it_is_resumed(ledger: Ledger) -> None:
    making.register(ledger)
    job_id = making.jobs_of(ledger, making.submit(ledger, making.training()))["model-0"].id
    for _ in range(2):
        assert making.pause(ledger, job_id).paused
    assert making.try_take(ledger) is None
    with ledger.listen() as listener:
        for _ in range(2):
            assert not making.resume(ledger, job_id).paused
        assert listener.wait(10.0) == {"cpu"}
    assert making.take(ledger).job_id == job_id
    assert making.event_types(ledger, job_id) == [
        "job.submitted",
        "job.paused",
        "job.resumed",
        "job.claimed",
    ]


def test_a_running_job_is_asked_to_leave_and_keeps_its_place(ledger: Ledger) -> None:
    making.register(ledger)
    making.submit(ledger, making.training())
    making.submit(ledger, making.training(name="younger", seeds=[1]))
    claim = making.take(ledger)
    assert making.pause(ledger, claim.job_id).phase is Phase.RUNNING
    assert making.heartbeat(ledger, claim) is Directive.PAUSE
    making.publish(ledger, claim, 5)
    assert making.relay(ledger, claim, [making.progress(5)]) is Directive.PAUSE
    assert making.interrupt(ledger, claim) is Phase.QUEUED
    younger = making.take(ledger)
    assert younger.job_id != claim.job_id
    making.resume(ledger, claim.job_id)
    again = making.take(ledger)
    assert again.job_id == claim.job_id
    assert again.checkpoint is not None


def test_what_a_pause_did_not_reach_in_time_counts(ledger: Ledger) -> None:
    making.register(ledger)
    experiment_id = making.submit(ledger, making.training())
    claim = making.take(ledger)
    making.pause(ledger, claim.job_id)
    assert making.succeed(ledger, claim) is Phase.SUCCEEDED
    assert making.phases(ledger, experiment_id)["verdict"] is Phase.QUEUED


def test_a_pause_outlives_a_lost_worker(ledger: Ledger) -> None:
    making.register(ledger)
    making.submit(ledger, making.training())
    claim = making.take(ledger)
    making.pause(ledger, claim.job_id)
    making.expire_lease(ledger, claim.job_id)
    making.rescue(ledger)
    job = making.job(ledger, claim.job_id)
    assert (job.phase, job.paused, job.reason) == (Phase.QUEUED, True, FailureKind.WORKER_LOST)
    assert making.try_take(ledger) is None


def test_cancel_wins_over_pause(ledger: Ledger) -> None:
    making.register(ledger)
    making.submit(ledger, making.training())
    claim = making.take(ledger)
    making.pause(ledger, claim.job_id)
    making.cancel(ledger, claim.job_id)
    assert making.heartbeat(ledger, claim) is Directive.CANCEL
    with pytest.raises(NotAllowedNow):
        making.pause(ledger, claim.job_id)
    assert making.interrupt(ledger, claim) is Phase.CANCELLED
    for move in (making.pause, making.resume):
        with pytest.raises(NotAllowedNow):
            move(ledger, claim.job_id)


def test_a_waiting_job_keeps_the_flag_until_it_is_queued(ledger: Ledger) -> None:
    making.register(ledger)
    shown = making.jobs_of(ledger, making.submit(ledger, making.training()))
    making.pause(ledger, shown["verdict"].id)
    making.succeed(ledger, making.take(ledger))
    assert making.job(ledger, shown["verdict"].id).phase is Phase.QUEUED
    assert making.try_take(ledger) is None


def test_foreign_jobs_and_experiments_are_not_found(ledger: Ledger) -> None:
    making.register(ledger)
    experiment_id = making.submit(ledger, making.training())
    job_id = making.jobs_of(ledger, experiment_id)["model-0"].id
    for move in (jobs.pause_job, jobs.resume_job, jobs.retry_job):
        with pytest.raises(NotFound), ledger.unit_of_work() as session:
            move(session, owner=making.STRANGER, id=job_id)
    for steer in (pause_experiment, resume_experiment, experiments.retry_experiment):
        with pytest.raises(NotFound), ledger.unit_of_work() as session:
            steer(session, owner=making.STRANGER, id=experiment_id)


def test_pausing_an_experiment_spares_what_others_want(ledger: Ledger) -> None:
    making.register(ledger)
    first = making.submit(ledger, making.distillation())
    other = making.submit(ledger, making.distillation(name="other", baseline=False))
    assert making.steer(ledger, pause_experiment, first).paused
    assert paused_keys(ledger, first) == {"baseline-0", "verdict"}
    making.steer(ledger, pause_experiment, other)
    assert paused_keys(ledger, first) == {"teacher-big", "baseline-0", "distilled-0", "verdict"}
    assert making.try_take(ledger) is None

    assert not making.steer(ledger, resume_experiment, first).paused
    assert paused_keys(ledger, first) == set()
    assert paused_keys(ledger, other) == {"verdict"}


def test_a_new_experiment_wakes_the_jobs_that_it_shares(ledger: Ledger) -> None:
    making.register(ledger)
    first = making.submit(ledger, making.distillation())
    making.steer(ledger, pause_experiment, first)
    making.submit(ledger, making.training())
    assert paused_keys(ledger, first) == {"baseline-0", "distilled-0", "verdict"}
    teacher = making.jobs_of(ledger, first)["teacher-big"].id
    assert making.take(ledger).job_id == teacher
    assert making.event_types(ledger, teacher)[-2:] == ["job.resumed", "job.claimed"]


def test_an_ended_experiment_is_not_paused(ledger: Ledger) -> None:
    making.register(ledger)
    experiment_id = making.submit(ledger, making.training())
    claim = making.take(ledger)
    making.steer(ledger, cancel_experiment, experiment_id)
    for move in (pause_experiment, resume_experiment):
        with pytest.raises(NotAllowedNow, match="being cancelled"):
            making.steer(ledger, move, experiment_id)
    making.interrupt(ledger, claim)
    with pytest.raises(NotAllowedNow, match="already cancelled"):
        making.steer(ledger, pause_experiment, experiment_id)


def paused_keys(ledger: Ledger, experiment_id: UUID) -> set[str]:
    return {key for key, job in making.jobs_of(ledger, experiment_id).items() if job.paused}

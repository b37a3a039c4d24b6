"""When a job may start and end."""

import pytest
from sqlalchemy import text

from tests.worker.ledger import making
from tests.worker.ledger.test_workers import beat
from worker.ledger import Ledger


def test_nothing_is_known_of_the_first(ledger: Ledger) -> None:
    making.register(ledger)
    beat(ledger)
    experiment_id = making.submit(ledger, making.training())
    job = making.jobs_of(ledger, experiment_id)["model-0"]
    assert (job.estimated_start_seconds, job.estimated_remaining_seconds) == (0.0, None)
    assert making.experiment(ledger, experiment_id).estimated_remaining_seconds is None


def test_a_job_takes_as_long_for_a_step_as_those_before(ledger: Ledger) -> None:
    making.register(ledger)
    beat(ledger)
    done(ledger, seconds=40)
    twice = {**making.TRAIN, "steps": 40}
    experiment_id = making.submit(ledger, making.training(name="b", train=twice))
    shown = making.jobs_of(ledger, experiment_id)
    assert shown["model-0"].estimated_start_seconds == 0.0
    assert shown["model-0"].estimated_remaining_seconds == pytest.approx(80)
    assert shown["verdict"].estimated_start_seconds is None
    assert shown["verdict"].estimated_remaining_seconds == pytest.approx(40)
    whole = making.experiment(ledger, experiment_id).estimated_remaining_seconds
    assert whole == pytest.approx(120)


def test_who_is_behind_waits_for_slots(ledger: Ledger) -> None:
    """Two slots, of which each takes its part of the three jobs that go before."""
    making.register(ledger)
    beat(ledger)
    done(ledger, seconds=40)
    experiment_id = making.submit(ledger, making.training(name="many", seeds=[1, 2, 3, 4]))
    starts = [
        making.jobs_of(ledger, experiment_id)[f"model-{seed}"].estimated_start_seconds
        for seed in (1, 2, 3, 4)
    ]
    assert starts == pytest.approx([0, 0, 20, 40])


def test_a_running_job_knows_best(ledger: Ledger) -> None:
    making.register(ledger)
    beat(ledger)
    done(ledger, seconds=40)
    making.submit(ledger, making.training(name="next", seeds=[3]))
    claim = making.take(ledger)
    assert making.job(ledger, claim.job_id).estimated_remaining_seconds == pytest.approx(40)
    making.relay(ledger, claim, [making.progress(5)])
    job = making.job(ledger, claim.job_id)
    assert (job.estimated_start_seconds, job.estimated_remaining_seconds) == (None, 1.5)


def test_without_a_worker_or_while_paused_nobody_knows(ledger: Ledger) -> None:
    making.register(ledger)
    done(ledger, seconds=40)
    job_id = making.jobs_of(ledger, making.submit(ledger, making.training(seeds=[3])))["model-3"].id
    assert making.job(ledger, job_id).estimated_remaining_seconds is None
    beat(ledger)
    assert making.job(ledger, job_id).estimated_remaining_seconds == pytest.approx(40)
    assert making.pause(ledger, job_id).estimated_remaining_seconds is None


def done(ledger: Ledger, *, seconds: float) -> None:
    """A training of 20 steps, and its comparison, that took so long."""
    making.submit(ledger, making.training(seeds=[77]))
    for _ in range(2):
        making.succeed(ledger, making.take(ledger))
    with ledger.unit_of_work() as session:
        session.execute(
            text(f"UPDATE jobs SET started_at = finished_at - interval '{seconds} seconds'")
        )

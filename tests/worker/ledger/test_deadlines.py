"""Experiments that must have ended by a time."""

from uuid import UUID

from sqlalchemy import text

from tests.worker.ledger import making
from worker.ledger import Ledger, Phase
from worker.ledger.deadlines import DEADLINE_EXCEEDED
from worker.ledger.experiments import retry_experiment
from worker.ledger.jobs import Directive


def test_what_has_not_ended_in_time_is_cancelled(ledger: Ledger) -> None:
    making.register(ledger)
    experiment_id = making.submit(ledger, making.distillation(deadline_seconds=60))
    claim = making.take(ledger)
    assert making.expire(ledger) == []
    pass_deadline(ledger)
    assert making.expire(ledger) == [experiment_id]
    assert making.expire(ledger) == []

    assert making.heartbeat(ledger, claim) is Directive.CANCEL
    assert making.succeed(ledger, claim) is Phase.CANCELLED
    shown = making.experiment(ledger, experiment_id)
    assert shown.phase is Phase.CANCELLED
    assert {job.reason for job in shown.jobs} == {DEADLINE_EXCEEDED}
    last = making.events(ledger, claim.job_id)[-1]
    assert (last.type, last.data["reason"]) == ("job.cancelled", DEADLINE_EXCEEDED)


def test_a_lost_worker_does_not_hide_the_reason(ledger: Ledger) -> None:
    making.register(ledger)
    making.submit(ledger, making.training(deadline_seconds=60))
    claim = making.take(ledger)
    pass_deadline(ledger)
    making.expire(ledger)
    making.expire_lease(ledger, claim.job_id)
    making.rescue(ledger)
    assert making.job(ledger, claim.job_id).reason == DEADLINE_EXCEEDED


def test_what_others_want_goes_on(ledger: Ledger) -> None:
    making.register(ledger)
    late = making.submit(ledger, making.training(deadline_seconds=60))
    other = making.submit(ledger, making.training(name="other"))
    pass_deadline(ledger)
    assert making.expire(ledger) == [late]
    assert making.phases(ledger, other)["model-0"] is Phase.QUEUED
    assert making.experiment(ledger, late).phase is Phase.CANCELLED


def test_a_deadline_that_was_kept_is_over(ledger: Ledger) -> None:
    making.register(ledger)
    experiment_id = making.submit(ledger, making.training(deadline_seconds=60))
    for _ in range(2):
        making.succeed(ledger, making.take(ledger))
    pass_deadline(ledger)
    assert making.expire(ledger) == []
    shown = making.experiment(ledger, experiment_id)
    assert (shown.phase, shown.expires_at) == (Phase.SUCCEEDED, None)


def test_another_try_has_the_time_again(ledger: Ledger) -> None:
    making.register(ledger)
    experiment_id = making.submit(ledger, making.training(deadline_seconds=60))
    pass_deadline(ledger)
    making.expire(ledger)
    shown = making.steer(ledger, retry_experiment, experiment_id)
    assert shown.phase is Phase.QUEUED
    assert shown.expires_at is not None
    assert making.expire(ledger) == []


def test_without_a_deadline_nothing_expires(ledger: Ledger) -> None:
    making.register(ledger)
    experiment_id: UUID = making.submit(ledger, making.training())
    assert making.experiment(ledger, experiment_id).expires_at is None
    assert making.expire(ledger) == []


def pass_deadline(ledger: Ledger) -> None:
    with ledger.unit_of_work() as session:
        session.execute(
            text(
                "UPDATE experiments SET expires_at = now() - interval '1 second'"
                " WHERE expires_at IS NOT NULL"
            )
        )

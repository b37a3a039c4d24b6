"""Races that are really committed: threads, one transaction each, one outcome."""

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from uuid import UUID

import pytest
from sqlalchemy import text

from kdcore.spec import Experiment
from tests.worker.ledger import making
from tests.worker.ledger.threads import at_once, wait_until_one_waits_for_a_lock
from worker.ledger import Fenced, IdempotencyMismatch, Ledger, Phase, experiments, jobs, models
from worker.ledger.jobs import Directive
from worker.ledger.states import TERMINAL

ROUNDS = 5


def test_two_claims_of_one_job(ledger: Ledger) -> None:
    making.register(ledger)
    making.submit(ledger, making.training())
    claims = at_once([partial(making.try_take, ledger, worker=f"w{n}") for n in range(8)])
    assert sorted(claim is None for claim in claims) == [False] + [True] * 7


def test_many_jobs_are_claimed_once_each(ledger: Ledger) -> None:
    making.register(ledger)
    making.submit(ledger, making.training(seeds=list(range(10))))
    claims = at_once([partial(making.try_take, ledger) for _ in range(10)])
    ids = [claim.job_id for claim in claims if claim is not None]
    assert len(set(ids)) == len(ids) == 10


def test_a_stale_finish_is_fenced(ledger: Ledger) -> None:
    making.register(ledger)
    experiment_id = making.submit(ledger, making.training())
    stale = making.take(ledger)
    making.expire_lease(ledger, stale.job_id)
    assert making.rescue(ledger) == [stale.job_id]
    for write in (making.succeed, making.fail, making.heartbeat):
        with pytest.raises(Fenced):
            write(ledger, stale)
    with pytest.raises(Fenced):
        making.publish(ledger, stale, 10)
    with pytest.raises(Fenced):
        making.relay(ledger, stale, [making.metric(1, loss=1.0)])
    taken_over = making.take(ledger)
    assert taken_over.attempt == stale.attempt + 1
    with pytest.raises(Fenced):
        making.succeed(ledger, stale)
    assert making.succeed(ledger, taken_over) is Phase.SUCCEEDED
    assert making.phases(ledger, experiment_id)["verdict"] is Phase.QUEUED


def test_two_finishes_of_one_attempt(ledger: Ledger) -> None:
    making.register(ledger)
    making.submit(ledger, making.training())
    claim = making.take(ledger)
    ends = at_once([partial(making.succeed, ledger, claim), partial(making.fail, ledger, claim)])
    assert sum(isinstance(end, Fenced) for end in ends) == 1
    assert making.job(ledger, claim.job_id).phase in ends


@pytest.mark.parametrize("number", range(ROUNDS))
def test_cancel_against_finish(ledger: Ledger, number: int) -> None:
    making.register(ledger)
    making.submit(ledger, making.training())
    claim = making.take(ledger)
    at_once([partial(making.cancel, ledger, claim.job_id), partial(making.succeed, ledger, claim)])
    job = making.job(ledger, claim.job_id)
    assert job.phase in TERMINAL
    assert (job.phase is Phase.CANCELLED) == job.cancel_requested
    last = making.event_types(ledger, claim.job_id)[-1]
    assert last == f"job.{job.phase}"


def test_a_cancel_before_publishing_wins(ledger: Ledger) -> None:
    making.register(ledger)
    experiment_id = making.submit(ledger, making.training())
    claim = making.take(ledger)
    assert making.cancel(ledger, claim.job_id).phase is Phase.RUNNING
    assert making.heartbeat(ledger, claim) is Directive.CANCEL
    assert making.succeed(ledger, claim) is Phase.CANCELLED
    assert making.phases(ledger, experiment_id) == dict.fromkeys(
        ["model-0", "verdict"], Phase.CANCELLED
    )


@pytest.mark.parametrize("number", range(ROUNDS))
def test_rescue_against_heartbeat(ledger: Ledger, number: int) -> None:
    making.register(ledger)
    making.submit(ledger, making.training())
    claim = making.take(ledger)
    making.expire_lease(ledger, claim.job_id)
    rescued, beat = at_once(
        [partial(making.rescue, ledger), partial(making.heartbeat, ledger, claim)]
    )
    job = making.job(ledger, claim.job_id)
    if rescued:
        assert isinstance(beat, Fenced)
        assert job.phase is Phase.QUEUED
    else:
        assert beat is Directive.CONTINUE
        assert job.phase is Phase.RUNNING


def test_a_heartbeat_that_comes_first_keeps_the_job(ledger: Ledger) -> None:
    making.register(ledger)
    making.submit(ledger, making.training())
    claim = making.take(ledger)
    making.expire_lease(ledger, claim.job_id)
    assert making.heartbeat(ledger, claim) is Directive.CONTINUE
    assert making.rescue(ledger) == []


def test_a_rescue_that_waited_for_a_heartbeat_takes_nothing(ledger: Ledger) -> None:
    making.register(ledger)
    making.submit(ledger, making.training())
    claim = making.take(ledger)
    making.expire_lease(ledger, claim.job_id)
    with ThreadPoolExecutor(1) as threads:
        with ledger.unit_of_work() as session:
            jobs.heartbeat(
                session, job_id=claim.job_id, attempt=claim.attempt, lease_seconds=making.LEASE
            )
            rescued = threads.submit(making.rescue, ledger)
            wait_until_one_waits_for_a_lock(ledger)
        assert rescued.result() == []
    assert making.job(ledger, claim.job_id).phase is Phase.RUNNING


def test_a_submission_that_waited_for_a_cancel_does_not_share_the_job(ledger: Ledger) -> None:
    making.register(ledger)
    first = making.jobs_of(ledger, making.submit(ledger, making.training()))
    with ThreadPoolExecutor(1) as threads:
        with ledger.unit_of_work() as session:
            jobs.cancel_job(session, owner=making.OWNER, id=first["model-0"].id)
            second = threads.submit(making.submit, ledger, making.training())
            wait_until_one_waits_for_a_lock(ledger)
        shown = making.jobs_of(ledger, second.result())
    assert {key: job.phase for key, job in shown.items()} == {
        "model-0": Phase.QUEUED,
        "verdict": Phase.WAITING,
    }
    assert not {job.id for job in shown.values()} & {job.id for job in first.values()}


def test_a_cancel_that_waited_for_a_submission_spares_the_shared_job(ledger: Ledger) -> None:
    making.register(ledger)
    first = making.submit(ledger, making.training())
    other = making.training(name="other")
    with ThreadPoolExecutor(1) as threads:
        with ledger.unit_of_work() as session:
            submission = experiments.submit(
                session, owner=making.OWNER, experiment=other, request_digest="d"
            )
            cancelled = threads.submit(_cancel_experiment, ledger, first)
            wait_until_one_waits_for_a_lock(ledger)
        assert cancelled.result() is Phase.CANCELLED
    assert making.phases(ledger, submission.experiment_id)["model-0"] is Phase.QUEUED


def test_two_experiments_that_share_a_job_are_cancelled_at_once(ledger: Ledger) -> None:
    making.register(ledger)
    ids = [making.submit(ledger, making.training(name=name)) for name in ("a", "b")]
    ends = at_once([partial(_cancel_experiment, ledger, id) for id in ids])
    assert ends == [Phase.CANCELLED] * 2
    assert set(making.phases(ledger, ids[0]).values()) == {Phase.CANCELLED}


def test_a_late_dependent_of_a_job_that_just_ends(ledger: Ledger) -> None:
    """The submission comes first to the lock, so the finish must see what it added."""
    making.register(ledger)
    making.submit(ledger, making.training())
    claim = making.take(ledger)
    distilling = making.distillation()
    with ThreadPoolExecutor(1) as threads:
        with ledger.unit_of_work() as session:
            submission = experiments.submit(
                session, owner=making.OWNER, experiment=distilling, request_digest="d"
            )
            ended = threads.submit(making.succeed, ledger, claim)
            wait_until_one_waits_for_a_lock(ledger)
        assert ended.result() is Phase.SUCCEEDED
    shown = making.jobs_of(ledger, submission.experiment_id)
    assert shown["teacher-big"].id == claim.job_id
    assert shown["distilled-0"].phase is Phase.QUEUED
    with ledger.unit_of_work() as session:
        version = models.resolve(session, owner=making.OWNER, ref="models:/demo-teacher-big/1")
    assert version.job_id == claim.job_id


def test_fifty_submissions_with_one_key(ledger: Ledger) -> None:
    making.register(ledger)
    experiment = making.distillation()
    ids = at_once([partial(making.submit, ledger, experiment, key="k1") for _ in range(50)])
    assert len(set(ids)) == 1
    assert isinstance(ids[0], UUID)
    assert _count(ledger, "experiments") == 1
    assert _count(ledger, "jobs") == 4


def test_one_key_with_two_bodies(ledger: Ledger) -> None:
    making.register(ledger)
    bodies = [making.training(), making.training(name="other")] * 5
    ends = at_once([partial(making.submit, ledger, body, key="k1") for body in bodies])
    assert len({end for end in ends if isinstance(end, UUID)}) == 1
    assert sum(isinstance(end, IdempotencyMismatch) for end in ends) == 5
    assert _count(ledger, "experiments") == 1


def test_submissions_at_once_share_their_jobs(ledger: Ledger) -> None:
    making.register(ledger)
    ends = at_once(
        [partial(making.submit, ledger, making.distillation(name=f"e{n}")) for n in range(12)]
    )
    assert not [end for end in ends if isinstance(end, BaseException)]
    assert _count(ledger, "experiments") == 12
    assert _count(ledger, "jobs") == 4


def test_overlapping_plans_in_other_orders_do_not_wait_for_each_other(ledger: Ledger) -> None:
    """Submissions and two workers at once: no deadlock, and nothing is left hanging."""
    making.register(ledger)

    def experiment(number: int) -> Experiment:
        seeds = [0, 1, 2] if number % 2 else [2, 1, 0]
        return making.distillation(name=f"e{number}", seeds=seeds)

    def work() -> int:
        ended = 0
        while (claim := making.try_take(ledger)) is not None:
            making.succeed(ledger, claim)
            ended += 1
        return ended

    calls = [partial(making.submit, ledger, experiment(number)) for number in range(8)]
    ends = at_once([*calls, work, work])
    assert not [end for end in ends if isinstance(end, BaseException)]
    work()
    with ledger.unit_of_work() as session:
        left = session.scalar(text("SELECT count(*) FROM jobs WHERE phase <> 'succeeded'"))
    assert left == 0


def test_two_sources_that_end_at_once_queue_their_dependent_once(ledger: Ledger) -> None:
    making.register(ledger)
    experiment_id = making.submit(ledger, making.training(seeds=list(range(6))))
    claims = [making.take(ledger) for _ in range(6)]
    ends = at_once([partial(making.succeed, ledger, claim) for claim in claims])
    assert ends == [Phase.SUCCEEDED] * 6
    verdict = making.jobs_of(ledger, experiment_id)["verdict"]
    assert verdict.phase is Phase.QUEUED
    assert making.event_types(ledger, verdict.id) == ["job.submitted", "job.enqueued"]
    with ledger.unit_of_work() as session:
        numbers = session.scalars(text("SELECT number FROM model_versions ORDER BY number")).all()
    assert numbers == [1, 2, 3, 4, 5, 6]


def _count(ledger: Ledger, table: str) -> int:
    with ledger.unit_of_work() as session:
        return int(session.scalar(text(f"SELECT count(*) FROM {table}")) or 0)


def _cancel_experiment(ledger: Ledger, experiment_id: UUID) -> Phase:
    with ledger.unit_of_work() as session:
        return experiments.cancel_experiment(session, owner=making.OWNER, id=experiment_id).phase

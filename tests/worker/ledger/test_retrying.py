"""What follows from each way to fail, and which failures are held against a job."""

import pytest
from sqlalchemy import text

from kdcore.spec import Failure, FailureKind, Outcome
from tests.worker.ledger import making
from worker.ledger import Ledger, Phase
from worker.ledger.jobs import Claim
from worker.ledger.states import AFTER_FAILURE, FRUITLESS_LIMIT

NEVER_ENDING = [kind for kind, rule in AFTER_FAILURE.items() if rule.limit is None]
COUNTED = [kind for kind, rule in AFTER_FAILURE.items() if rule.limit is not None]


@pytest.mark.parametrize("kind", COUNTED)
def test_a_kind_of_failure_ends_the_job_at_its_limit(ledger: Ledger, kind: FailureKind) -> None:
    start(ledger)
    limit = max(AFTER_FAILURE[kind].limit or 0, 1)
    phases = [fail_once(ledger, kind) for _ in range(limit)]
    assert phases == [Phase.QUEUED] * (limit - 1) + [Phase.FAILED]


def test_an_interrupted_attempt_is_never_held_against_the_job(ledger: Ledger) -> None:
    assert NEVER_ENDING == [FailureKind.INTERRUPTED]
    start(ledger)
    fail_once(ledger, FailureKind.TRAINER_KILLED)
    for _ in range(2 * FRUITLESS_LIMIT):
        assert making.interrupt(ledger, take_now(ledger)) is Phase.QUEUED
    rest = [fail_once(ledger, FailureKind.TRAINER_KILLED) for _ in range(FRUITLESS_LIMIT - 1)]
    assert rest[-1] is Phase.FAILED
    assert rest[-2] is Phase.QUEUED


def test_a_newer_checkpoint_forgives(ledger: Ledger) -> None:
    start(ledger)
    for step in range(1, FRUITLESS_LIMIT + 3):
        claim = take_now(ledger)
        making.publish(ledger, claim, step)
        assert making.fail(ledger, claim, FailureKind.TRAINER_KILLED) is Phase.QUEUED
    ends = [fail_once(ledger, FailureKind.TRAINER_KILLED) for _ in range(FRUITLESS_LIMIT - 1)]
    assert ends[-1] is Phase.FAILED


def test_the_same_checkpoint_again_does_not_forgive(ledger: Ledger) -> None:
    start(ledger)
    phases = []
    for _ in range(FRUITLESS_LIMIT):
        claim = take_now(ledger)
        making.publish(ledger, claim, 10)
        phases.append(making.fail(ledger, claim, FailureKind.TRAINER_KILLED))
    assert phases[-1] is Phase.FAILED


def test_kinds_that_take_turns_do_not_go_on_for_ever(ledger: Ledger) -> None:
    start(ledger)
    turns = [FailureKind.TRAINER_KILLED, FailureKind.WORKER_LOST] * FRUITLESS_LIMIT
    phases = [fail_once(ledger, kind) for kind in turns[:FRUITLESS_LIMIT]]
    assert phases == [Phase.QUEUED] * (FRUITLESS_LIMIT - 1) + [Phase.FAILED]


def test_a_limit_counts_its_own_kind(ledger: Ledger) -> None:
    start(ledger)
    assert fail_once(ledger, FailureKind.TRAINER_KILLED) is Phase.QUEUED
    assert fail_once(ledger, FailureKind.TRAINER_KILLED) is Phase.QUEUED
    assert fail_once(ledger, FailureKind.OUT_OF_MEMORY) is Phase.QUEUED
    assert fail_once(ledger, FailureKind.OUT_OF_MEMORY) is Phase.FAILED


def test_the_delay_doubles_and_is_respected(ledger: Ledger) -> None:
    start(ledger)
    first = making.take(ledger)
    making.fail(ledger, first, FailureKind.STORAGE_ERROR)
    assert making.try_take(ledger) is None
    assert delay(ledger) == pytest.approx(2.0)
    making.let_pass_delay(ledger, first.job_id)
    making.fail(ledger, making.take(ledger), FailureKind.STORAGE_ERROR)
    assert delay(ledger) == pytest.approx(4.0)


def test_the_delay_after_a_death_from_outside_stays_short(ledger: Ledger) -> None:
    start(ledger)
    for _ in range(FRUITLESS_LIMIT - 1):
        fail_once(ledger, FailureKind.TRAINER_KILLED)
    longest = AFTER_FAILURE[FailureKind.TRAINER_KILLED].longest_delay_seconds
    assert delay(ledger) == pytest.approx(longest)


def test_a_crash_ends_the_job_long_before_a_death_from_outside_would() -> None:
    crashed = AFTER_FAILURE[FailureKind.TRAINER_CRASHED].limit
    killed = AFTER_FAILURE[FailureKind.TRAINER_KILLED].limit
    assert crashed is not None
    assert killed is not None
    assert crashed < killed


def test_a_lost_worker_is_counted(ledger: Ledger) -> None:
    start(ledger)
    for _ in range(FRUITLESS_LIMIT):
        claim = making.take(ledger)
        making.expire_lease(ledger, claim.job_id)
        assert making.rescue(ledger) == [claim.job_id]
    job = making.job(ledger, claim.job_id)
    assert job.phase is Phase.FAILED
    assert job.reason == FailureKind.WORKER_LOST
    assert making.rescue(ledger) == []


def test_an_interrupted_job_goes_on_before_younger_ones(ledger: Ledger) -> None:
    making.register(ledger)
    making.submit(ledger, making.training())
    making.submit(ledger, making.training(name="younger", seeds=[1]))
    older = making.take(ledger)
    making.interrupt(ledger, older)
    assert making.take(ledger).job_id == older.job_id


def test_what_a_trainer_wrote_is_stored_whatever_it_is(ledger: Ledger) -> None:
    start(ledger)
    claim = making.take(ledger)
    failure = Failure(kind=FailureKind.CODE_ERROR, message="a\0b", remedy="c\0")
    outcome = Outcome(status="failed", failure=failure)
    assert making.end(ledger, claim, outcome) is Phase.FAILED
    assert making.job(ledger, claim.job_id).message == "a\ufffdb"


def start(ledger: Ledger) -> None:
    making.register(ledger)
    making.submit(ledger, making.training())


def take_now(ledger: Ledger) -> Claim:
    with ledger.unit_of_work() as session:
        session.execute(text("UPDATE jobs SET not_before = now() - interval '1 second'"))
    return making.take(ledger)


def fail_once(ledger: Ledger, kind: FailureKind) -> Phase:
    return making.fail(ledger, take_now(ledger), kind)


def delay(ledger: Ledger) -> float:
    """Seconds from the last event of the job to the next possible start."""
    with ledger.unit_of_work() as session:
        seconds = session.scalar(
            text(
                "SELECT extract(epoch FROM not_before - (SELECT max(at) FROM events e"
                " WHERE e.job_id = jobs.id)) FROM jobs WHERE phase = 'queued'"
            )
        )
    return float(seconds or 0)

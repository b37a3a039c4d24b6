"""Whose turn it is: priorities with ageing, owners who take turns, and what fits a worker."""

from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from tests.worker.ledger import making
from worker.ledger import Ledger, Phase, jobs, reading
from worker.ledger.jobs import Offer
from worker.ledger.turns import PATIENCE, POINT

GPUS = Offer(cpu_slots=0, gpus=4, gpus_in_all=4)
SMALL = {**making.TRAIN, "batch": 4}


def test_priority_goes_first_and_waiting_makes_up_for_it(ledger: Ledger) -> None:
    making.register(ledger)
    idle = one(ledger, 1, priority=-3)
    urgent = one(ledger, 2)
    minutes = POINT.total_seconds() / 60
    assert ahead(ledger, idle) == 1
    making.let_wait(ledger, idle, 3 * minutes + 1)
    assert ahead(ledger, idle) == 0
    assert [making.take(ledger).job_id for _ in range(2)] == [idle, urgent]


def test_a_more_urgent_experiment_moves_a_shared_job_forward(ledger: Ledger) -> None:
    making.register(ledger)
    first, second = one(ledger, 1), one(ledger, 2)
    making.submit(ledger, making.training(name="urgent", seeds=[2], priority=50))
    assert [making.take(ledger).job_id for _ in range(2)] == [second, first]


def test_owners_take_turns(ledger: Ledger) -> None:
    for owner in (making.OWNER, making.STRANGER):
        making.register(ledger, owner=owner)
    many = [one(ledger, seed) for seed in range(4)]
    late = [one(ledger, seed, owner=making.STRANGER, priority=-50) for seed in range(2)]
    shown = [ahead(ledger, id) for id in many] + [ahead(ledger, id, making.STRANGER) for id in late]
    taken = [making.take(ledger).job_id for _ in range(6)]
    assert taken == [many[0], late[0], many[1], late[1], many[2], many[3]]
    assert shown == [taken.index(id) for id in [*many, *late]]


def test_who_holds_much_waits_for_those_who_hold_little(ledger: Ledger) -> None:
    for owner in (making.OWNER, making.STRANGER):
        making.register(ledger, owner=owner)
    mine = [one(ledger, seed) for seed in range(5)]
    held = [making.take(ledger) for _ in range(3)]
    theirs = [one(ledger, seed, owner=making.STRANGER) for seed in range(3)]
    assert ahead(ledger, mine[3]) == 3
    assert [making.take(ledger).job_id for _ in range(2)] == theirs[:2]
    for claim in held:
        making.succeed(ledger, claim)
    assert making.take(ledger).job_id == mine[3]


def test_jobs_of_several_gpus_count_as_several(ledger: Ledger) -> None:
    for owner in (making.OWNER, making.STRANGER):
        making.register(ledger, owner=owner)
    on_gpus(ledger, 0, gpus=2)
    many = [on_gpus(ledger, seed) for seed in (1, 2)]
    theirs = [on_gpus(ledger, seed, owner=making.STRANGER) for seed in range(3)]
    making.take(ledger, queues=["gpu"], offer=GPUS)
    shown = [ahead(ledger, id) for id in many]
    taken = [making.take(ledger, queues=["gpu"], offer=GPUS).job_id for _ in range(5)]
    assert taken == [theirs[0], theirs[1], many[0], theirs[2], many[1]]
    assert shown == [taken.index(id) for id in many]


@settings(
    max_examples=15,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    made=st.lists(
        st.tuples(st.sampled_from(["a", "b", "c"]), st.integers(-2, 2), st.integers(0, 40)),
        min_size=1,
        max_size=8,
    ),
    running=st.integers(0, 3),
)
def test_jobs_ahead_is_the_order_of_claims(
    ledger: Ledger, made: list[tuple[str, int, int]], running: int
) -> None:
    wipe(ledger)
    for owner in ("a", "b", "c"):
        making.register(ledger, owner=owner)
    ids = {}
    for seed, (owner, priority, minutes) in enumerate(made):
        job_id = one(ledger, seed, owner=owner, priority=priority)
        making.let_wait(ledger, job_id, minutes)
        ids[job_id] = owner
    for _ in range(min(running, len(ids))):
        del ids[making.take(ledger).job_id]
    shown = {id: ahead(ledger, id, owner) for id, owner in ids.items()}
    taken = [making.take(ledger).job_id for _ in ids]
    assert shown == {id: place for place, id in enumerate(taken)}


def test_a_job_takes_what_it_needs(ledger: Ledger) -> None:
    making.register(ledger)
    resources = {"device": "gpu", "memory_gib": 8, "labels": ["fast", "a100"], "run_seconds": 60}
    train = {**making.TRAIN, "gpus": 2}
    experiment = making.training(resources=resources, train=train)
    shown = making.jobs_of(ledger, making.submit(ledger, experiment))
    fit, verdict = shown["model-0"], shown["verdict"]
    assert (fit.queue, fit.gpus, verdict.gpus) == ("gpu", 2, 1)
    assert (fit.memory_bytes, fit.labels, fit.run_seconds) == (8 << 30, ["a100", "fast"], 60)

    fitting = Offer(
        cpu_slots=0, gpus=2, gpus_in_all=2, memory_bytes=8 << 30, labels=["a100", "b", "fast"]
    )
    for lacking in (
        {"gpus": 1},
        {"gpus": 0, "cpu_slots": 5},
        {"memory_bytes": (8 << 30) - 1},
        {"labels": ["fast"]},
    ):
        offer = Offer(**{**vars(fitting), **lacking})
        assert making.try_take(ledger, queues=["gpu"], offer=offer) is None, lacking
    assert making.try_take(ledger, queues=["cpu"], offer=fitting) is None
    claim = making.take(ledger, queues=["cpu", "gpu"], offer=fitting)
    assert (claim.job_id, claim.gpus, claim.memory_bytes) == (fit.id, 2, 8 << 30)
    assert claim.seconds_left == 60


def test_a_job_without_gpus_takes_a_slot(ledger: Ledger) -> None:
    making.register(ledger)
    one(ledger, 1, resources={"queue": "mixed"})
    gpus_alone = Offer(cpu_slots=0, gpus=8, gpus_in_all=8)
    assert making.try_take(ledger, queues=["mixed"], offer=gpus_alone) is None
    assert making.try_take(ledger, queues=["mixed"], offer=Offer(memory_bytes=1)) is not None


def test_what_does_not_fit_lets_others_pass(ledger: Ledger) -> None:
    making.register(ledger)
    large = on_gpus(ledger, 0, gpus=4)
    small = [on_gpus(ledger, seed) for seed in (1, 2)]
    two_free = Offer(cpu_slots=0, gpus=2, gpus_in_all=4)
    assert making.take(ledger, queues=["gpu"], offer=two_free).job_id == small[0]

    making.let_wait(ledger, large, PATIENCE.total_seconds() / 60 + 1)
    assert making.try_take(ledger, queues=["gpu"], offer=two_free) is None, "kept for the large one"
    too_few = Offer(cpu_slots=0, gpus=2, gpus_in_all=2)
    assert making.take(ledger, queues=["gpu"], offer=too_few).job_id == small[1]
    assert making.take(ledger, queues=["gpu"], offer=GPUS).job_id == large


def test_what_is_ahead_of_an_overdue_larger_job_still_starts(ledger: Ledger) -> None:
    making.register(ledger)
    large = on_gpus(ledger, 0, gpus=4)
    small = on_gpus(ledger, 1)
    making.let_wait(ledger, large, 60)
    making.let_wait(ledger, small, 61)
    two_free = Offer(cpu_slots=0, gpus=2, gpus_in_all=4)
    assert making.take(ledger, queues=["gpu"], offer=two_free).job_id == small


def test_a_worker_with_nothing_free_gets_nothing(ledger: Ledger) -> None:
    making.register(ledger)
    one(ledger, 1)
    assert making.try_take(ledger, offer=Offer(cpu_slots=0)) is None


def test_the_time_that_earlier_attempts_took_is_gone(ledger: Ledger) -> None:
    making.register(ledger)
    one(ledger, 1, resources={"run_seconds": 100})
    claim = making.take(ledger)
    with ledger.unit_of_work() as session:
        session.execute(text("UPDATE attempts SET started_at = now() - interval '70 seconds'"))
    making.interrupt(ledger, claim)
    left = making.take(ledger).seconds_left
    assert left == pytest.approx(30, abs=5)


def one(ledger: Ledger, seed: int, *, owner: str = making.OWNER, **changes: object) -> UUID:
    """A queued fit that no other experiment shares."""
    experiment = making.training(seeds=[seed], name=f"e{seed}", **changes)
    experiment_id = making.submit(ledger, experiment, owner=owner)
    return making.jobs_of(ledger, experiment_id, owner=owner)[f"model-{seed}"].id


def on_gpus(ledger: Ledger, seed: int, *, gpus: int = 1, owner: str = making.OWNER) -> UUID:
    train = {**SMALL, "gpus": gpus}
    return one(ledger, seed, owner=owner, resources={"device": "gpu"}, train=train)


def ahead(ledger: Ledger, job_id: UUID, owner: str = making.OWNER) -> int | None:
    job = making.job(ledger, job_id, owner=owner)
    assert job.phase is Phase.QUEUED
    return job.jobs_ahead


def wipe(ledger: Ledger) -> None:
    with ledger.unit_of_work() as session:
        session.execute(text("TRUNCATE jobs, experiments, datasets CASCADE"))


def test_paused_jobs_are_not_ahead_of_others(ledger: Ledger) -> None:
    making.register(ledger)
    first, second = one(ledger, 1), one(ledger, 2)
    making.pause(ledger, first)
    assert ahead(ledger, second) == 0
    assert ahead(ledger, first) is None
    with ledger.unit_of_work() as session:
        assert jobs.queue_depth(session) == {"cpu": 1}
        shown = reading.list_jobs(session, owner=making.OWNER, phase=Phase.QUEUED).items
    assert {job.id: job.paused for job in shown} == {first: True, second: False}

"""What dashboards read from the ledger, and the way of a trace through it."""

from datetime import timedelta

import pytest
from sqlalchemy import text

from kdcore.spec import FailureKind
from tests.worker.ledger import making
from worker.ledger import Ledger, gauges
from worker.ledger.origin import Origin, keep_trace, origin

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture(autouse=True)
def dataset(ledger: Ledger) -> None:
    making.register(ledger)


def test_an_empty_ledger(ledger: Ledger) -> None:
    with ledger.unit_of_work() as session:
        assert gauges.queues(session) == []
        assert gauges.expired_leases(session) == 0


def test_queues(ledger: Ledger) -> None:
    for seed in range(3):
        making.submit(ledger, making.training(seeds=[seed]))
    making.submit(ledger, making.training(seeds=[9]), queue="gpu")
    making.take(ledger)
    cpu, gpu = queues(ledger)
    assert (cpu.queue, cpu.queued, cpu.running) == ("cpu", 2, 1)
    assert (gpu.queue, gpu.queued, gpu.running) == ("gpu", 1, 0)
    assert 0 < cpu.oldest_seconds < 60


def test_a_job_that_only_runs_waits_for_nothing(ledger: Ledger) -> None:
    making.submit(ledger, making.training())
    making.take(ledger)
    [cpu] = queues(ledger)
    assert cpu == gauges.QueueGauges("cpu", queued=0, oldest_seconds=0.0, running=1)


def test_a_job_that_is_delayed_does_not_wait_yet(ledger: Ledger) -> None:
    making.submit(ledger, making.training())
    making.fail(ledger, making.take(ledger), FailureKind.STORAGE_ERROR)
    [cpu] = queues(ledger)
    assert (cpu.queued, cpu.oldest_seconds) == (1, 0.0)


def test_expired_leases(ledger: Ledger) -> None:
    making.submit(ledger, making.training())
    claim = making.take(ledger)
    assert expired(ledger) == 0
    making.expire_lease(ledger, claim.job_id)
    assert expired(ledger) == 1
    making.rescue(ledger)
    assert expired(ledger) == 0


def test_a_claim_knows_how_long_its_job_waited(ledger: Ledger) -> None:
    making.submit(ledger, making.training())
    with ledger.unit_of_work() as session:
        session.execute(text("UPDATE jobs SET not_before = now() - interval '90 s'"))
    claim = making.take(ledger)
    came_from = of_job(ledger, claim)
    assert came_from.queue == "cpu"
    assert came_from.waited_seconds == pytest.approx(90, abs=30)
    assert came_from.traceparent is None


def test_a_retried_job_waits_from_the_end_of_its_delay(ledger: Ledger) -> None:
    making.submit(ledger, making.training())
    with ledger.unit_of_work() as session:
        session.execute(text("UPDATE jobs SET not_before = now() - interval '1 h'"))
    making.interrupt(ledger, making.take(ledger))
    again = of_job(ledger, making.take(ledger))
    assert timedelta(seconds=again.waited_seconds) < timedelta(minutes=1)


def test_the_trace_is_with_the_jobs_that_the_request_made(ledger: Ledger) -> None:
    first = making.submit(ledger, making.training())
    with ledger.unit_of_work() as session:
        keep_trace(session, experiment_id=first, traceparent=TRACE)
    other = TRACE.replace("0af7", "ffff")
    second = making.submit(ledger, making.training(seeds=[0, 1]))
    with ledger.unit_of_work() as session:
        keep_trace(session, experiment_id=second, traceparent=other)
    shared = making.jobs_of(ledger, first)["model-0"].id
    assert making.events(ledger, shared)[0].data["trace"] == TRACE
    assert making.events(ledger, shared)[0].data["key"] == "model-0"
    own = making.jobs_of(ledger, second)["model-1"].id
    assert making.events(ledger, own)[0].data["trace"] == other
    assert of_job(ledger, making.take(ledger)).traceparent == TRACE


def test_how_an_attempt_ended(ledger: Ledger) -> None:
    making.submit(ledger, making.training())
    claim = making.take(ledger)
    assert ended_as(ledger, claim) is None
    making.fail(ledger, claim, FailureKind.OUT_OF_MEMORY)
    assert ended_as(ledger, claim) == "out_of_memory"


def queues(ledger: Ledger) -> list[gauges.QueueGauges]:
    with ledger.unit_of_work() as session:
        return gauges.queues(session)


def expired(ledger: Ledger) -> int:
    with ledger.unit_of_work() as session:
        return gauges.expired_leases(session)


def of_job(ledger: Ledger, claim: making.jobs.Claim) -> Origin:
    with ledger.unit_of_work() as session:
        return origin(session, job_id=claim.job_id)


def ended_as(ledger: Ledger, claim: making.jobs.Claim) -> str | None:
    with ledger.unit_of_work() as session:
        return gauges.ended_as(session, job_id=claim.job_id, attempt=claim.attempt)

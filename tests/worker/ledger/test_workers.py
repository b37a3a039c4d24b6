"""Workers that register, are drained and go; queues that are looked at and closed."""

import pytest
from sqlalchemy import text

from tests.worker.ledger import making
from worker.ledger import Ledger, NotFound, queues, workers
from worker.ledger.jobs import Offer
from worker.ledger.queues import QueueView
from worker.ledger.workers import Capacity, Drain, WorkerView

BOX = Capacity(
    version="1", queues=["cpu", "gpu"], labels=["fast"], cpu_slots=2, gpus=4, memory_bytes=1 << 34
)
TWO_GPUS = {"resources": {"device": "gpu"}, "train": {**making.TRAIN, "gpus": 2}}


def test_a_worker_shows_what_it_has_and_holds(ledger: Ledger) -> None:
    making.register(ledger)
    assert beat(ledger) is None
    making.submit(ledger, making.training())
    making.submit(ledger, making.training(name="on-gpus", seeds=[1], **TWO_GPUS))
    offer = Offer(cpu_slots=2, gpus=4, gpus_in_all=4)
    held = [making.take(ledger, worker="box", queues=["cpu", "gpu"], offer=offer) for _ in range(2)]
    (shown,) = listed(ledger)
    assert (shown.name, shown.live, shown.drain) == ("box", True, None)
    assert (shown.cpu_slots_free, shown.gpus_free) == (1, 2)
    assert set(shown.running) == {claim.job_id for claim in held}
    for claim in held:
        making.succeed(ledger, claim)
    (shown,) = listed(ledger)
    assert (shown.cpu_slots_free, shown.gpus_free, shown.running) == (2, 4, [])


def test_who_was_not_heard_of_is_not_live_and_later_forgotten(ledger: Ledger) -> None:
    beat(ledger, "gone")
    unheard(ledger, "1 minute")
    beat(ledger, "here")
    assert [(worker.name, worker.live) for worker in listed(ledger)] == [
        ("here", True),
        ("gone", False),
    ]
    beat(ledger, "gone")
    assert all(worker.live for worker in listed(ledger))
    unheard(ledger, "8 days")
    beat(ledger, "here")
    with ledger.unit_of_work() as session:
        workers.leave(session, name="here")
    assert listed(ledger) == []


@pytest.mark.parametrize("how", list(Drain))
def test_a_drained_worker_claims_nothing(ledger: Ledger, how: Drain) -> None:
    making.register(ledger)
    making.submit(ledger, making.training())
    beat(ledger)
    with ledger.unit_of_work() as session:
        assert workers.drain_worker(session, "box", how).drain is how
    assert making.try_take(ledger, worker="box") is None
    assert beat(ledger) is how, "a heartbeat does not undo it"
    with ledger.listen() as listener:
        with ledger.unit_of_work() as session:
            assert workers.undrain_worker(session, "box").drain is None
        assert listener.wait(10.0) <= {"cpu", "gpu"}
    assert making.try_take(ledger, worker="box") is not None


def test_others_go_on_while_one_is_drained(ledger: Ledger) -> None:
    making.register(ledger)
    making.submit(ledger, making.training())
    beat(ledger)
    with ledger.unit_of_work() as session:
        workers.drain_worker(session, "box", Drain.FINISH)
    assert making.try_take(ledger, worker="other") is not None


def test_a_worker_that_nobody_knows(ledger: Ledger) -> None:
    with ledger.unit_of_work() as session:
        for look in (workers.get_worker, workers.undrain_worker):
            with pytest.raises(NotFound):
                look(session, "nobody")
        with pytest.raises(NotFound):
            workers.drain_worker(session, "nobody", Drain.EVICT)


def test_queues_show_their_jobs_and_who_serves_them(ledger: Ledger) -> None:
    making.register(ledger)
    assert all_queues(ledger) == {}
    making.submit(ledger, making.training(seeds=[0, 1, 2]))
    claim = making.take(ledger)
    for job in making.jobs_of(ledger, making.submit(ledger, making.training(seeds=[5]))).values():
        making.pause(ledger, job.id)
    beat(ledger)
    beat(ledger, "second")
    with ledger.unit_of_work() as session:
        workers.drain_worker(session, "second", Drain.FINISH)
        oldest = "UPDATE jobs SET queued_at = now() - interval '1 minute' WHERE id = :id"
        session.execute(text(oldest), {"id": claim.job_id})
        session.execute(text(oldest.replace("= :id", "<> :id")), {"id": claim.job_id})
    shown = all_queues(ledger)
    cpu = shown["cpu"]
    assert (cpu.depth, cpu.paused, cpu.waiting, cpu.running) == (2, 1, 2, 1)
    assert cpu.oldest_wait_seconds == pytest.approx(60, abs=5)
    assert (cpu.workers, cpu.cpu_slots, cpu.gpus, cpu.closed) == (1, 2, 4, False)
    assert (shown["gpu"].depth, shown["gpu"].workers) == (0, 1)
    assert shown["gpu"].oldest_wait_seconds is None


def test_a_closed_queue_takes_jobs_and_hands_out_none(ledger: Ledger) -> None:
    making.register(ledger)
    with ledger.unit_of_work() as session:
        closed = queues.close_queue(session, "cpu", "new disks")
    assert (closed.closed, closed.reason) == (True, "new disks")
    making.submit(ledger, making.training())
    making.submit(ledger, making.training(name="other", seeds=[1], resources={"queue": "spare"}))
    assert making.try_take(ledger) is None
    assert making.try_take(ledger, queues=["cpu", "spare"]) is not None
    assert all_queues(ledger)["cpu"].depth == 1
    with ledger.listen() as listener:
        with ledger.unit_of_work() as session:
            assert not queues.open_queue(session, "cpu").closed
        assert listener.wait(10.0) == {"cpu"}
    assert making.try_take(ledger) is not None


def beat(ledger: Ledger, name: str = "box") -> Drain | None:
    with ledger.unit_of_work() as session:
        return workers.beat(session, name=name, capacity=BOX)


def unheard(ledger: Ledger, interval: str) -> None:
    with ledger.unit_of_work() as session:
        session.execute(text(f"UPDATE workers SET seen_at = now() - interval '{interval}'"))


def listed(ledger: Ledger) -> list[WorkerView]:
    with ledger.unit_of_work() as session:
        return workers.list_workers(session)


def all_queues(ledger: Ledger) -> dict[str, QueueView]:
    with ledger.unit_of_work() as session:
        return {queue.name: queue for queue in queues.list_queues(session)}

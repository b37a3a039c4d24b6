"""Which hints the dispatcher sends, on a real ledger and a real Redis."""

import base64
import json
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import pytest

from tests.worker.cluster.bench import ClusterBench
from tests.worker.ledger import making
from worker.cluster import dispatcher
from worker.cluster.configuration import TICK, TICKS, WAKE
from worker.cluster.dispatcher import AGAIN_SECONDS, BROKER_AWAY, WAITING_MAX, Dispatcher


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def application(bench: ClusterBench) -> Iterator[Any]:
    with bench.application() as application:
        yield application


@pytest.fixture
def sender(bench: ClusterBench, application: Any, clock: Clock) -> Dispatcher:
    return Dispatcher(application, bench.ledger, clock=clock)


def test_a_job_is_told_of_once_and_again_after_a_while(
    bench: ClusterBench, sender: Dispatcher, clock: Clock
) -> None:
    bench.submit()
    assert [sender.dispatch(), sender.dispatch()] == [1, 0]
    bench.redis.client.flushall()
    clock.now += AGAIN_SECONDS
    assert sender.dispatch() == 1
    assert bench.redis.waiting("cpu") == 1


def test_only_what_may_start_is_told_of(bench: ClusterBench, sender: Dispatcher) -> None:
    job_id = bench.submit()
    bench.delay(job_id, 3600)
    assert sender.dispatch() == 0
    bench.delay(job_id, 0)
    assert sender.dispatch() == 1
    making.take(bench.ledger)
    assert sender.dispatch() == 0


def test_a_job_that_comes_back_is_told_of_anew(bench: ClusterBench, sender: Dispatcher) -> None:
    bench.submit()
    assert sender.dispatch() == 1
    claim = making.take(bench.ledger)
    assert sender.dispatch() == 0
    making.interrupt(bench.ledger, claim)
    assert sender.dispatch() == 1


def test_a_queue_without_a_worker_does_not_grow(
    bench: ClusterBench,
    application: Any,
    sender: Dispatcher,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(dispatcher, "WAITING_MAX", 3)
    for seed in range(5):
        bench.submit(seed=seed)
    for _ in range(3):
        sender.dispatch()
        clock.now += AGAIN_SECONDS
    assert bench.redis.waiting("cpu") == 3
    for _ in range(10):
        application.send_task(TICK)
    sender.dispatch()
    assert bench.redis.waiting(TICKS) == 0
    assert WAITING_MAX > 3


def test_hints_hold_an_id_and_nothing_else(bench: ClusterBench, sender: Dispatcher) -> None:
    job_id = bench.submit()
    sender.dispatch()
    [sent] = messages(bench, "cpu")
    assert sent["headers"]["task"] == WAKE
    assert sent["content-type"] == "application/json"
    args, kwargs, _ = sent["payload"]
    assert ([UUID(each) for each in args], kwargs) == ([job_id], {})


def test_each_queue_is_told_of_its_own(bench: ClusterBench, sender: Dispatcher) -> None:
    bench.submit()
    making.submit(bench.ledger, making.training(seeds=[1], name="big"), queue="gpu")
    assert sender.dispatch() == 2
    assert (bench.redis.waiting("cpu"), bench.redis.waiting("gpu")) == (1, 1)


def test_a_broker_that_comes_back(bench: ClusterBench, sender: Dispatcher) -> None:
    bench.submit()
    assert sender.dispatch() == 1
    bench.submit(seed=1)
    bench.redis.kill()
    with pytest.raises(BROKER_AWAY):
        sender.dispatch()
    bench.redis.start()
    assert sender.dispatch() == 1


def messages(bench: ClusterBench, queue: str) -> list[dict[str, Any]]:
    raw: Any = bench.redis.client.lrange(queue, 0, -1)
    found = [json.loads(each) for each in raw]
    return [{**each, "payload": json.loads(base64.b64decode(each["body"]))} for each in found]

"""Hints: what they bring, and that doubled, hand-made and hostile ones bring nothing."""

import base64
import json
import pickle
import random
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from tests.worker.cluster.bench import ClusterBench
from tests.worker.ledger import making
from tests.worker.supervisor.bench import until
from worker.cluster.configuration import TICK, WAKE
from worker.ledger import Phase

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def test_a_hint_brings_a_job_that_nobody_noted(bench: ClusterBench) -> None:
    worker = bench.worker({"steps": 2})
    bench.wait_until_consuming(worker)
    job_id = bench.submit_silently()
    with bench.application() as application:
        application.send_task(WAKE, args=[str(job_id)], queue="cpu")
    bench.wait_for(job_id, Phase.SUCCEEDED)


def test_each_hint_ten_times_shuffled(bench: ClusterBench) -> None:
    jobs = [bench.submit(seed=seed) for seed in range(4)]
    workers = [bench.worker({"steps": 2}, cpu_slots=2) for _ in range(2)]
    for worker in workers:
        bench.wait_until_consuming(worker)
    sent = [job_id for job_id in jobs for _ in range(10)]
    random.Random(0).shuffle(sent)
    with bench.application() as application:
        for job_id in sent:
            application.send_task(WAKE, args=[str(job_id)], queue="cpu")
    for job_id in jobs:
        bench.wait_for(job_id, Phase.SUCCEEDED)
    until(lambda: not bench.redis.waiting("cpu"))
    assert [bench.attempts(job_id) for job_id in jobs] == [[(1, "succeeded")]] * 4


def test_what_others_put_into_the_queue_changes_nothing(
    bench: ClusterBench, tmp_path: Path
) -> None:
    trap = tmp_path / "trap"
    worker = bench.worker({"steps": 2})
    bench.wait_until_consuming(worker)
    job_id = bench.submit_silently()
    bench.delay(job_id, 3600)
    before = bench.everything(job_id)
    for hostile in hostile_messages(trap):
        bench.redis.client.lpush("cpu", hostile)
        until(lambda: not bench.redis.waiting("cpu"))
        bench.wait_until_consuming(worker)  # or fail, with what it said at its end
    assert not trap.exists()
    assert bench.everything(job_id) == before
    bench.delay(job_id, 0)
    with bench.application() as application:
        application.send_task(WAKE, args=[str(job_id)], queue="cpu")
    bench.wait_for(job_id, Phase.SUCCEEDED)


def hostile_messages(trap: Path) -> list[bytes]:
    class Evil:
        def __reduce__(self) -> Any:
            return trap.touch, ()

    evil = base64.b64encode(pickle.dumps(Evil())).decode()
    signature = {"task": WAKE, "args": [], "kwargs": {}, "options": {}, "subtask_type": None}
    return [
        b"no message",
        b"{}",
        b"[1, 2, 3]",
        b"\xff\xfe\x00",
        json.dumps({"body": "", "properties": {}}).encode(),
        message(WAKE, [str(uuid4())]),
        message(WAKE, ["'; DROP TABLE jobs; --"]),
        message(WAKE, []),
        message(WAKE, [1, 2, 3]),
        message(WAKE, [{"a": ["b"] * 1000}]),
        message(TICK, ["more than it takes"]),
        message("os.system", [f"touch {trap}"]),
        message("celery.map", [signature, [[1]]]),
        message("celery.chunks", [signature, [[1]], 1]),
        message("celery.backend_cleanup", []),
        message("worker.supervisor.supervisor.Supervisor.stop", []),
        message(WAKE, [], body="this is not base64"),
        message(WAKE, [], body=base64.b64encode(b"nor this JSON").decode()),
        message(WAKE, [], body=evil, content_type="application/x-python-serialize"),
        message(WAKE, [], body=evil, content_type="application/json"),
        message(WAKE, [str(uuid4())], eta="2999-01-01T00:00:00+00:00"),
        message(WAKE, [str(uuid4())], expires="never"),
        message(WAKE, [str(uuid4())], retries=-1, timelimit=["a", "b"]),
    ]


def message(
    task: str,
    args: list[Any],
    *,
    body: str | None = None,
    content_type: str = "application/json",
    **headers: Any,
) -> bytes:
    """As kombu lays a message into a list of Redis."""
    id = str(uuid4())
    embedded = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}
    plain = json.dumps([args, {}, embedded]).encode()
    return json.dumps(
        {
            "body": base64.b64encode(plain).decode() if body is None else body,
            "content-encoding": "utf-8" if content_type.endswith("json") else "binary",
            "content-type": content_type,
            "headers": {
                "lang": "py", "task": task, "id": id, "root_id": id, "parent_id": None,
                "group": None, "eta": None, "expires": None, "retries": 0,
                "timelimit": [None, None], "argsrepr": "", "kwargsrepr": "", "origin": "nobody",
                **headers,
            },
            "properties": {
                "correlation_id": id, "reply_to": id, "delivery_mode": 2, "priority": 0,
                "delivery_info": {"exchange": "", "routing_key": "cpu"},
                "body_encoding": "base64", "delivery_tag": str(uuid4()),
            },
        }
    ).encode()  # fmt: skip


def test_a_hint_for_a_job_that_has_ended(bench: ClusterBench) -> None:
    job_id = bench.submit()
    worker = bench.worker({"steps": 2})
    bench.wait_until_consuming(worker)
    bench.wait_for(job_id, Phase.SUCCEEDED)
    before = bench.everything(job_id)
    other = bench.submit(seed=1)
    with bench.application() as application:
        application.send_task(WAKE, args=[str(job_id)], queue="cpu")
    bench.wait_for(other, Phase.SUCCEEDED)
    assert bench.everything(job_id) == before
    assert making.job(bench.ledger, job_id).attempt == 1

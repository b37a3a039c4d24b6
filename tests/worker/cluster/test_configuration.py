"""What a process gets to know from its settings, and that it says so without secrets."""

import subprocess
import sys
from typing import Any

import pytest
from pydantic import SecretStr, ValidationError

from tests.worker.supervisor.bench import ROOT
from worker.cluster.application import make_application
from worker.cluster.configuration import TASKS, TICK_SECONDS, TICKS
from worker.maintenance import SCHEDULES
from worker.settings import BrokerSettings

SECRET = "hunter2"


def settings(**values: Any) -> BrokerSettings:
    return BrokerSettings(broker_url=SecretStr("redis://:pw@localhost:1/0"), **values)


def test_the_known_tasks_and_no_other() -> None:
    assert set(make_application(settings()).tasks) == TASKS


def test_json_and_nothing_else_no_result_acknowledged_early() -> None:
    conf = make_application(settings()).conf
    assert conf.accept_content == ["json"]
    assert conf.task_serializer == "json"
    assert conf.task_ignore_result
    assert not conf.task_acks_late
    assert conf.worker_prefetch_multiplier == 1
    assert make_application(settings()).backend.as_uri() == "disabled://"


def test_every_worker_consumes_ticks_and_the_queues_of_its_jobs() -> None:
    queues = make_application(settings(queues=("gpu", "a100"))).amqp.queues
    assert set(queues.consume_from) == {"gpu", "a100", TICKS}
    assert all(queue.exchange.name == name for name, queue in queues.items())


def test_beat_ticks_at_least_as_often_as_the_most_frequent_schedule() -> None:
    assert min(schedule.every_seconds for schedule in SCHEDULES.values()) >= TICK_SECONDS
    conf = make_application(settings()).conf
    assert conf.beat_schedule == {"tick": {"task": "worker.tick", "schedule": TICK_SECONDS}}


@pytest.mark.parametrize("url", [f"amqp://u:{SECRET}@host//", SECRET, ""])
def test_another_broker_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(ValidationError, match="redis://") as refused:
        BrokerSettings(broker_url=SecretStr(url))
    assert SECRET not in str(refused.value)


@pytest.mark.parametrize("arguments", [[], ["baet"]])
def test_another_command_is_refused(arguments: list[str]) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "worker.cluster", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 1
    assert "worker|beat" in ended.stderr

"""What the watchdog does about Celery, on stand-ins for the process and the probe."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from threading import Event
from typing import Any, cast

import pytest
from celery.worker import state

from tests.worker.supervisor.bench import until
from worker.cluster import watchdog
from worker.cluster.watchdog import Watchdog


@dataclass
class Supervisor:
    stopped: Event = field(default_factory=Event)
    runs: int = 0

    def stop(self) -> None:
        self.stopped.set()

    def busy(self) -> int:
        return self.runs


@dataclass
class Process:
    supervisor: Supervisor = field(default_factory=Supervisor)
    alive: bool = True
    stopped: bool = False

    def is_alive(self) -> bool:
        return self.alive

    def stop(self) -> None:
        self.stopped = True


@dataclass
class Probe:
    deaf: bool = False

    def is_deaf(self) -> bool:
        return self.deaf


@pytest.fixture
def process() -> Process:
    return Process()


@pytest.fixture
def probe() -> Probe:
    return Probe()


@pytest.fixture
def restarts(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    found: list[list[str]] = []
    monkeypatch.setattr(watchdog.os, "execv", lambda _, arguments: found.append(arguments))
    return found


@pytest.fixture
def watching(process: Process, probe: Probe, monkeypatch: pytest.MonkeyPatch) -> Iterator[Watchdog]:
    monkeypatch.setattr(watchdog, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(state, "should_stop", None)
    monkeypatch.setattr(state, "should_terminate", None)
    dog = Watchdog(cast("Any", process), cast("Any", probe), probe_seconds=0.01)
    dog.start()
    yield dog
    dog.stop()


@pytest.mark.parametrize("flag", ["should_stop", "should_terminate"])
@pytest.mark.parametrize("status", [0, 1, True])
def test_the_supervisor_stops_as_soon_as_celery_is_asked_to(
    flag: str, status: object, watching: Watchdog, process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not process.supervisor.stopped.wait(0.1)
    monkeypatch.setattr(state, flag, status)
    assert process.supervisor.stopped.wait(5)


def test_celery_ends_with_the_supervisor(watching: Watchdog, process: Process) -> None:
    process.alive = False
    until(lambda: state.should_stop == 1)


def test_a_deaf_consumer_is_left_alone_while_something_runs(
    watching: Watchdog, process: Process, probe: Probe, restarts: list[list[str]]
) -> None:
    process.supervisor.runs = 1
    probe.deaf = True
    assert not process.supervisor.stopped.wait(0.2)
    assert not restarts
    process.supervisor.runs = 0
    until(lambda: bool(restarts))
    assert process.stopped


def test_who_is_asked_to_stop_does_not_start_anew(
    watching: Watchdog, process: Process, probe: Probe, restarts: list[list[str]]
) -> None:
    process.supervisor.runs = 1
    probe.deaf = True
    state.should_stop = 0
    assert process.supervisor.stopped.wait(5)
    process.supervisor.runs = 0
    assert not restarts

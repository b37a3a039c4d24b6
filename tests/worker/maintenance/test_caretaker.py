"""Caretakers of several workers, on a real ledger."""

from collections.abc import Iterator
from pathlib import Path
from threading import Event, Lock
from typing import Any

import pytest
from sqlalchemy import text

from tests.worker.ledger import making
from tests.worker.supervisor.bench import until
from worker.artifacts import FolderStore
from worker.ledger import Ledger, Phase
from worker.maintenance import SCHEDULES, Schedule
from worker.maintenance.caretaker import Caretaker
from worker.maintenance.forgetting import KEEP

SOON = 0.2


class Caretakers:
    def __init__(self, ledger: Ledger, folder: Path) -> None:
        self._ledger = ledger
        self._store = FolderStore(folder)
        self._all: list[Caretaker] = []

    def start(self, schedules: dict[str, Schedule], *, count: int = 1) -> list[Caretaker]:
        started = [
            Caretaker(self._ledger, self._store, worker=f"w{number}", schedules=schedules)
            for number in range(count)
        ]
        self._all += started
        for caretaker in started:
            caretaker.start()
        return started

    def stop(self) -> None:
        for caretaker in self._all:
            caretaker.stop()


@pytest.fixture
def caretakers(ledger: Ledger, tmp_path: Path) -> Iterator[Caretakers]:
    made = Caretakers(ledger, tmp_path / "artifacts")
    yield made
    made.stop()


def ended(ledger: Ledger, schedule: str) -> list[Any]:
    with ledger.unit_of_work() as session:
        return list(
            session.execute(
                text(
                    "SELECT fire_at, worker, error FROM ticks "
                    "WHERE schedule = :name AND ended_at IS NOT NULL ORDER BY fire_at"
                ),
                {"name": schedule},
            )
        )


def test_several_workers_run_each_moment_once(caretakers: Caretakers, ledger: Ledger) -> None:
    runs: list[str] = []
    schedule = Schedule(SOON, lambda *_: runs.append("run"))
    started = caretakers.start({"sweep": schedule}, count=4)
    until(lambda: len(ended(ledger, "sweep")) >= 5)
    for caretaker in started:
        caretaker.look()
    caretakers.stop()
    assert len(runs) == len(ended(ledger, "sweep"))


def test_a_failure_is_written_down_and_the_next_moment_comes(
    caretakers: Caretakers, ledger: Ledger
) -> None:
    def fail(*_: object) -> None:
        raise ValueError("no such thing")

    caretakers.start({"sweep": Schedule(SOON, fail)})
    until(lambda: len(ended(ledger, "sweep")) >= 2)
    assert {row.error for row in ended(ledger, "sweep")} == {"ValueError: no such thing"}


def test_a_long_run_holds_up_nothing_else_and_does_not_meet_itself(
    caretakers: Caretakers, ledger: Ledger
) -> None:
    going_on, may_end, alone = Event(), Event(), Lock()

    def long(*_: object) -> None:
        assert alone.acquire(blocking=False)
        going_on.set()
        may_end.wait(30)
        alone.release()

    quick = Schedule(SOON, lambda *_: None)
    caretakers.start({"long": Schedule(SOON, long), "quick": quick}, count=2)
    assert going_on.wait(10)
    until(lambda: len(ended(ledger, "quick")) >= 3)
    until(lambda: len(ended(ledger, "long")) >= 2)
    assert {row.error for row in ended(ledger, "long")} == {"the run before it still went on"}
    may_end.set()
    until(lambda: any(row.error is None for row in ended(ledger, "long")))


def test_it_is_looked_at_once_when_asked(caretakers: Caretakers, ledger: Ledger) -> None:
    """Between two looks of its own an hour may pass; a tick does not wait for it."""
    [caretaker] = caretakers.start({"sweep": Schedule(3600, lambda *_: None)})
    until(lambda: len(ended(ledger, "sweep")) == 1)
    with ledger.unit_of_work() as session:
        session.execute(text("DELETE FROM ticks"))

    def ran_again() -> bool:
        caretaker.look()
        return len(ended(ledger, "sweep")) == 1

    until(ran_again)


def test_stop_does_not_wait_for_a_run_without_end(
    caretakers: Caretakers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.maintenance.caretaker.LEAVE_SECONDS", 0.2)
    going_on, may_end = Event(), Event()

    def endless(*_: object) -> None:
        going_on.set()
        may_end.wait(60)

    [caretaker] = caretakers.start({"sweep": Schedule(SOON, endless)})
    assert going_on.wait(10)
    caretaker.stop()
    may_end.set()


def test_rescue_is_one_of_them(caretakers: Caretakers, ledger: Ledger) -> None:
    making.register(ledger)
    making.submit(ledger, making.training())
    claim = making.take(ledger)
    making.expire_lease(ledger, claim.job_id)
    caretakers.start(SCHEDULES)
    until(lambda: making.job(ledger, claim.job_id).phase is Phase.QUEUED)


def test_rows_are_kept_longer_than_any_period() -> None:
    assert KEEP.total_seconds() > max(schedule.every_seconds for schedule in SCHEDULES.values())

"""Each moment of a schedule belongs to one caller."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from threading import Barrier, Thread
from time import monotonic

from sqlalchemy import text

from tests.worker.supervisor.bench import until
from worker.ledger import Ledger, ticks

WORKER = "w1"


def begin(ledger: Ledger, every_seconds: float, *, schedule: str = "sweep") -> datetime | None:
    with ledger.unit_of_work() as session:
        return ticks.begin(session, schedule=schedule, every_seconds=every_seconds, worker=WORKER)


def moments(ledger: Ledger) -> list[datetime]:
    with ledger.unit_of_work() as session:
        return list(session.scalars(text("SELECT fire_at FROM ticks ORDER BY fire_at")))


def test_a_moment_is_given_once(ledger: Ledger) -> None:
    moment = begin(ledger, 3600)
    assert moment is not None
    assert begin(ledger, 3600) is None
    assert begin(ledger, 3600, schedule="another") == moment
    assert (moment.minute, moment.second, moment.microsecond) == (0, 0, 0)


def test_racing_callers_share_the_moments_between_them(ledger: Ledger) -> None:
    """Eight of them for two seconds, at 500 moments a second."""
    found: list[datetime] = []
    together = Barrier(8)

    def race() -> None:
        together.wait()
        ends = monotonic() + 2
        while monotonic() < ends:
            moment = begin(ledger, 0.002)
            if moment is not None:
                found.append(moment)

    threads = [Thread(target=race) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) > 8
    assert max(Counter(found).values()) == 1
    assert sorted(found) == moments(ledger)


def test_missed_moments_are_not_made_up_for(ledger: Ledger) -> None:
    """After more than three periods without anybody, the newest moment is run and no other."""
    first = begin(ledger, 0.1)
    assert first is not None
    until(lambda: now(ledger) > first + timedelta(seconds=0.4))
    found = [begin(ledger, 0.1), begin(ledger, 60)]
    assert found[0] is not None
    assert found[0] >= first + timedelta(seconds=0.4)
    assert len([moment for moment in moments(ledger) if moment > first]) == 1


def test_how_it_ended_is_kept_also_what_postgres_cannot_hold(ledger: Ledger) -> None:
    moment = begin(ledger, 3600)
    assert moment is not None
    with ledger.unit_of_work() as session:
        ticks.end(session, schedule="sweep", fire_at=moment, error="nul\0byte")
    with ledger.unit_of_work() as session:
        [row] = session.execute(text("SELECT worker, error, ended_at FROM ticks"))
    assert (row.worker, row.error) == (WORKER, "nul\N{REPLACEMENT CHARACTER}byte")
    assert row.ended_at is not None


def test_old_moments_are_forgotten(ledger: Ledger) -> None:
    old = datetime(2020, 1, 1, tzinfo=UTC)
    new = begin(ledger, 3600)
    with ledger.unit_of_work() as session:
        session.execute(
            text("INSERT INTO ticks (schedule, fire_at, worker) VALUES ('sweep', :old, 'w0')"),
            {"old": old},
        )
        ticks.forget(session, older_than=timedelta(days=2))
    assert moments(ledger) == [new]


def now(ledger: Ledger) -> datetime:
    with ledger.unit_of_work() as session:
        moment: datetime = session.scalars(text("SELECT clock_timestamp()")).one()
    return moment

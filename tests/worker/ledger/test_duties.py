"""One holder at a time, and a next one when the time of the last has passed."""

from datetime import timedelta
from functools import partial

from sqlalchemy import update

from tests.worker.ledger.threads import at_once
from worker.ledger import Ledger
from worker.ledger.duties import leave_duty, take_duty
from worker.ledger.service_tables import DutyRow


def test_one_of_many_has_it(ledger: Ledger) -> None:
    taken = at_once([partial(take, ledger, f"h{n}") for n in range(8)])
    assert sum(taken) == 1


def test_it_is_renewed_by_its_holder_alone(ledger: Ledger) -> None:
    assert take(ledger, "a")
    assert take(ledger, "a")
    assert not take(ledger, "b")


def test_it_passes_on_when_its_time_is_over(ledger: Ledger) -> None:
    assert take(ledger, "a")
    with ledger.unit_of_work() as session:
        session.execute(update(DutyRow).values(until=DutyRow.until - timedelta(seconds=31)))
    assert take(ledger, "b")
    assert not take(ledger, "a")


def test_it_is_left(ledger: Ledger) -> None:
    assert take(ledger, "a")
    with ledger.unit_of_work() as session:
        leave_duty(session, "tracking", holder="b")  # not b's to leave
    assert not take(ledger, "b")
    with ledger.unit_of_work() as session:
        leave_duty(session, "tracking", holder="a")
    assert take(ledger, "b")


def take(ledger: Ledger, holder: str) -> bool:
    with ledger.unit_of_work() as session:
        return take_duty(session, "tracking", holder=holder, seconds=30)

"""A database and its clock: well, strange, and away."""

import pytest
from sqlalchemy import make_url, text

from tests.worker.doctor.checking import SECRET, found
from worker.doctor.database import _skew, check_clock, check_database
from worker.doctor.findings import Level
from worker.doctor.settings import DoctorSettings
from worker.ledger import Ledger


def test_a_database_that_is_well(database_url: str) -> None:
    findings = list(check_database(DoctorSettings(database_url=database_url)))
    messages = [finding.message for finding in findings if finding.level is Level.OK]
    assert messages[0].startswith("Postgres 1")
    assert messages[1].startswith("the schema is current")


def test_a_database_that_forgets(ledger: Ledger, database_url: str) -> None:
    with ledger.unit_of_work() as session:
        name = make_url(database_url).database
        session.execute(text(f'ALTER DATABASE "{name}" SET synchronous_commit = off'))
    findings = list(check_database(DoctorSettings(database_url=database_url)))
    told = [each for each in findings if each.message.startswith("synchronous_commit is off")]
    assert [each.level for each in told] == [Level.ERROR]


def test_an_empty_database(empty_database_url: str) -> None:
    messages, remedies = found(check_database, database_url=empty_database_url)
    assert messages[Level.ERROR].startswith("the schema is empty, this version needs 00")
    assert "worker.ledger.migrate" in str(remedies[Level.ERROR])


@pytest.mark.parametrize(
    ("address", "message", "remedy"),
    [
        (None, "not set", "Set it"),
        ("nonsense", "no address", "Its form"),
        (f"mysql://kd:{SECRET}@db/kd", "no address", "Its form"),
        (f"postgresql+psycopg://kd:{SECRET}@127.0.0.1:1/kd", "does not answer", "Start Postgres"),
    ],
)
def test_no_database(address: str | None, message: str, remedy: str) -> None:
    messages, remedies = found(check_database, database_url=address)
    assert message in messages[Level.ERROR]
    assert remedy in str(remedies[Level.ERROR])


def test_a_wrong_password(database_url: str) -> None:
    wrong = make_url(database_url).set(password=SECRET)
    messages, remedies = found(
        check_database, database_url=wrong.render_as_string(hide_password=False)
    )
    assert "password authentication failed" in messages[Level.ERROR]
    assert str(remedies[Level.ERROR]).startswith("Correct user and password")


def test_no_such_database(database_url: str) -> None:
    other = make_url(database_url).set(database="no_such_thing")
    _, remedies = found(check_database, database_url=other.render_as_string(hide_password=False))
    assert str(remedies[Level.ERROR]).startswith("Create the role and its database")


def test_the_clock(database_url: str) -> None:
    messages, _ = found(check_clock, database_url=database_url)
    assert messages.keys() == {Level.OK}
    assert found(check_clock)[0].keys() == {Level.SKIPPED}
    away = f"postgresql+psycopg://kd:{SECRET}@127.0.0.1:1/kd"
    assert found(check_clock, database_url=away)[0].keys() == {Level.SKIPPED}


@pytest.mark.parametrize(
    ("ahead", "uncertainty", "level"),
    [
        (0.5, 0.01, Level.OK),
        (2.5, 1.0, Level.OK),
        (3.0, 0.1, Level.WARNING),
        (-3.0, 0.1, Level.WARNING),
        (3600.0, 0.1, Level.ERROR),
    ],
)
def test_how_far_clocks_may_be_apart(ahead: float, uncertainty: float, level: Level) -> None:
    finding = _skew(ahead, uncertainty)
    assert finding.level is level
    if level is Level.WARNING:
        assert ("behind" in finding.message) == (ahead > 0)

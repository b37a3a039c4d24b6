"""Every pair of phase and action, on a real row; and the page that is drawn from the table."""

import itertools
import os
from pathlib import Path
from uuid import UUID

import pytest
from sqlalchemy import text

from kdcore.spec import FailureKind
from tests.worker.ledger import making
from worker.ledger import Fenced, Ledger, NotAllowedNow, Phase
from worker.ledger.claiming import lease_end
from worker.ledger.drawing import states_page
from worker.ledger.states import AFTER_FAILURE, TERMINAL, TRANSITIONS, Action
from worker.ledger.transitions import EVENT_TYPES, transition

PAGE = Path(__file__).resolve().parents[3] / "docs" / "states.md"


@pytest.mark.parametrize(("phase", "action"), list(itertools.product(Phase, Action)))
def test_every_pair(ledger: Ledger, phase: Phase, action: Action) -> None:
    job_id = a_job(ledger, phase)
    target = TRANSITIONS.get((phase, action))
    values = {"lease_until": lease_end(30.0)} if target is Phase.RUNNING else {}
    if target is None:
        with pytest.raises(NotAllowedNow), ledger.unit_of_work() as session:
            transition(session, action, job_id=job_id, phase=phase, values=values)
        assert making.event_types(ledger, job_id) == []
        return
    with ledger.unit_of_work() as session:
        moved = transition(session, action, job_id=job_id, phase=phase, values=values)
    job = making.job(ledger, job_id)
    assert moved.phase is job.phase is target
    assert (job.finished_at is not None) == (target in TERMINAL)
    assert making.event_types(ledger, job_id) == [EVENT_TYPES[action]]


@pytest.mark.parametrize(("phase", "action"), list(TRANSITIONS))
def test_a_transition_that_came_too_late_changes_nothing(
    ledger: Ledger, phase: Phase, action: Action
) -> None:
    job_id = a_job(ledger, Phase.SUCCEEDED)
    with pytest.raises(Fenced), ledger.unit_of_work() as session:
        transition(session, action, job_id=job_id, phase=phase)
    assert making.job(ledger, job_id).phase is Phase.SUCCEEDED
    assert making.event_types(ledger, job_id) == []


def test_terminal_phases_have_no_way_out() -> None:
    assert not {phase for phase, _ in TRANSITIONS} & TERMINAL


def test_every_failure_has_a_rule() -> None:
    assert AFTER_FAILURE.keys() == set(FailureKind)


@pytest.mark.docs
def test_the_page_is_up_to_date() -> None:
    if os.environ.get("KD_WRITE_DOCS"):
        PAGE.write_text(states_page())
    assert PAGE.read_text() == states_page(), "run `make docs`"


def a_job(ledger: Ledger, phase: Phase) -> UUID:
    """A job without events, put into ``phase`` by force."""
    making.register(ledger)
    job_id = making.jobs_of(ledger, making.submit(ledger, making.training()))["model-0"].id
    with ledger.unit_of_work() as session:
        session.execute(text("DELETE FROM events"))
        session.execute(
            text(
                "UPDATE jobs SET phase = :phase, event_number = 0, lease_until ="
                " CASE WHEN :phase = 'running' THEN now() + interval '1 minute' END"
                " WHERE id = :id"
            ),
            {"phase": phase, "id": job_id},
        )
    return job_id

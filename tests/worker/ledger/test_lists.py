"""Pages, cursors, references and what belongs to whom."""

import base64
import json
from uuid import UUID

import pytest

from tests.worker.ledger import making
from worker.ledger import (
    InvalidReference,
    Ledger,
    NotFound,
    Phase,
    datasets,
    experiments,
    models,
    reading,
)

BAD_CURSORS = [
    "",
    "x",
    "é",
    base64.urlsafe_b64encode(b"[]").decode(),
    base64.urlsafe_b64encode(b'["2026-01-01T00:00:00", "x"]').decode(),
    base64.urlsafe_b64encode(json.dumps(["2026-01-01T00:00:00+00:00", 5]).encode()).decode(),
    base64.urlsafe_b64encode(b"[" * 100_000).decode(),
]


def test_pages_of_experiments_cover_all_once(ledger: Ledger) -> None:
    making.register(ledger)
    ids = [making.submit(ledger, making.training(name=f"e{n}")) for n in range(5)]
    seen = []
    cursor = None
    while True:
        with ledger.unit_of_work() as session:
            page = experiments.list_experiments(session, owner=making.OWNER, cursor=cursor, limit=2)
        assert 1 <= len(page.items) <= 2
        seen += [summary.id for summary in page.items]
        cursor = page.next_cursor
        if cursor is None:
            break
    assert seen == ids[::-1]


def test_experiments_by_phase(ledger: Ledger) -> None:
    making.register(ledger)
    queued = making.submit(ledger, making.training(name="b", seeds=[9], priority=-1))
    running = making.submit(ledger, making.training(name="a"))
    claim = making.take(ledger)
    assert listed(ledger, Phase.QUEUED) == {queued: {Phase.QUEUED: 1, Phase.WAITING: 1}}
    assert listed(ledger, Phase.RUNNING) == {running: {Phase.RUNNING: 1, Phase.WAITING: 1}}
    making.fail(ledger, claim)
    assert listed(ledger, Phase.FAILED) == {running: {Phase.FAILED: 1, Phase.CANCELLED: 1}}
    assert listed(ledger, Phase.SUCCEEDED) == {}


def test_pages_of_jobs(ledger: Ledger) -> None:
    making.register(ledger)
    experiment_id = making.submit(ledger, making.training(seeds=[0, 1, 2]))
    making.submit(ledger, making.training(name="other", seeds=[7]))
    with ledger.unit_of_work() as session:
        first = reading.list_jobs(session, owner=making.OWNER, experiment_id=experiment_id, limit=3)
        second = reading.list_jobs(
            session,
            owner=making.OWNER,
            experiment_id=experiment_id,
            cursor=first.next_cursor,
            limit=3,
        )
    assert second.next_cursor is None
    assert len({job.id for job in first.items + second.items}) == 4


@pytest.mark.parametrize("cursor", BAD_CURSORS)
def test_a_malformed_cursor_is_refused(ledger: Ledger, cursor: str) -> None:
    for lister in (
        experiments.list_experiments,
        reading.list_jobs,
        datasets.list_datasets,
        models.list_models,
    ):
        with pytest.raises(InvalidReference) as caught, ledger.unit_of_work() as session:
            lister(session, owner=making.OWNER, cursor=cursor, limit=5)
        assert caught.value.field == "cursor"


def test_revisions_of_a_dataset(ledger: Ledger) -> None:
    first = making.register(ledger)
    second = making.register(ledger, content="a" * 64)
    with ledger.unit_of_work() as session:
        again, new = datasets.register(
            session, owner=making.OWNER, source=making.source(), manifest=making.manifest()
        )
        found = {
            ref: datasets.get_revision(session, owner=making.OWNER, ref=ref)
            for ref in ("nuclei", "nuclei@latest", "nuclei@1")
        }
        page = datasets.list_datasets(session, owner=making.OWNER)
        revisions = datasets.list_revisions(session, owner=making.OWNER, name="nuclei")
    assert (again, new) == (first, False)
    assert found == {"nuclei": second, "nuclei@latest": second, "nuclei@1": first}
    assert revisions == [second, first]
    assert first.manifest.fingerprint() == first.fingerprint
    (summary,) = page.items
    assert (summary.name, summary.revisions, summary.latest) == ("nuclei", 2, 2)
    assert summary.fingerprint == second.fingerprint


@pytest.mark.parametrize("ref", ["nuclei@3", "other", "nuclei@0", "nuclei@", "a/b", "nuclei\0", ""])
def test_a_dataset_that_is_not_there(ledger: Ledger, ref: str) -> None:
    making.register(ledger)
    with ledger.unit_of_work() as session, pytest.raises(NotFound):
        datasets.get_revision(session, owner=making.OWNER, ref=ref)
    with ledger.unit_of_work() as session, pytest.raises(NotFound):
        datasets.get_revision(session, owner=making.STRANGER, ref="nuclei")


@pytest.mark.parametrize(
    "ref", ["models:/m/1", "models:/m@latest", "models:/m@champion", "models:/m", "m/1", "", "\0"]
)
def test_a_model_that_is_not_there(ledger: Ledger, ref: str) -> None:
    with ledger.unit_of_work() as session:
        with pytest.raises(InvalidReference) as caught:
            models.resolve(session, owner=making.OWNER, ref=ref, field="models.0")
        with pytest.raises(NotFound):
            models.get_model(session, owner=making.OWNER, name="m")
    assert caught.value.field == "models.0"


def listed(ledger: Ledger, phase: Phase) -> dict[UUID, dict[Phase, int]]:
    with ledger.unit_of_work() as session:
        page = experiments.list_experiments(session, owner=making.OWNER, phase=phase)
    return {summary.id: summary.jobs for summary in page.items}

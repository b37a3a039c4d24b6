"""Each invariant goes red when the one thing is done that it forbids, and all are green before."""

import json
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import text

from kdcore.spec import FailureKind, Outcome
from tests.chaos import audit
from tests.chaos.client import toys
from tests.chaos.oracle import Evidence, examine, toy_end, toy_twin
from tests.chaos.toy_trainer import weights
from tests.worker.ledger import making
from worker.artifacts import FolderStore
from worker.ledger import FileRef, Ledger, jobs

STEPS, EVERY = 10, 5


class World:
    """An experiment whose fit was killed at step 7, went on from 5, and succeeded."""

    def __init__(self, ledger: Ledger, folder: Path) -> None:
        self.ledger = ledger
        self.store = FolderStore(folder / "store")
        self._content = folder / "content"
        making.register(ledger)
        [request] = toys(1, steps=STEPS, every=EVERY)
        training = making.training(**_changes(request.body))
        self.experiment = making.submit(ledger, training, key=request.key)
        accepted = {request.key: {self.experiment}}
        self.evidence = Evidence(self.rows, self.store, accepted, set(), (), toy_end, toy_twin)
        self._run()

    def do(self, statement: str) -> None:
        with self.ledger.unit_of_work() as session:
            session.execute(text(statement))

    def rows(self, statement: str, **values: Any) -> list[tuple[Any, ...]]:
        with self.ledger.unit_of_work() as session:
            return [tuple(row) for row in session.execute(text(statement), values)]

    def _run(self) -> None:
        first = making.take(self.ledger)
        self._train(first, range(1, 8))
        making.fail(self.ledger, first, FailureKind.TRAINER_KILLED)
        making.let_pass_delay(self.ledger, first.job_id)
        second = making.take(self.ledger)
        self._train(second, range(6, STEPS + 1))
        model = {
            "model/model.safetensors": self._put(weights(0, STEPS).encode()),
            "model/model.json": self._put(b"{}"),
        }
        succeeded = Outcome(status="succeeded", step=STEPS)
        making.end(self.ledger, second, succeeded, files=model)
        report = {"report/verdict.json": self._put(b"{}")}
        verdict = making.take(self.ledger)
        making.end(self.ledger, verdict, succeeded, files=report, verdict={})

    def _train(self, claim: jobs.Claim, steps: range) -> None:
        for step in steps:
            making.relay(self.ledger, claim, [making.metric(step, loss=1.0)])
            if step % EVERY == 0:
                self._publish(claim, step)

    def _publish(self, claim: jobs.Claim, step: int) -> None:
        state = self._put(f"state {step}".encode())
        promised = {"files": {"state.pt": {"sha256": state.sha256, "size": state.size}}}
        place = f"checkpoints/step-{step:08d}"
        files = {
            f"{place}/state.pt": state,
            f"{place}/manifest.json": self._put(json.dumps(promised).encode()),
        }
        with self.ledger.unit_of_work() as session:
            jobs.publish(
                session, job_id=claim.job_id, attempt=claim.attempt, files=files, step=step
            )

    def _put(self, content: bytes) -> FileRef:
        self._content.write_bytes(content)
        return self.store.put(self._content)


@pytest.fixture
def world(ledger: Ledger, database_url: str, tmp_path: Path) -> World:
    audit.install(database_url)
    return World(ledger, tmp_path)


def _changes(body: dict[str, Any]) -> dict[str, Any]:
    return {name: body[name] for name in ("name", "train", "seeds")}


TAMPERINGS: dict[str, str] = {
    "I1 a job never ended": "UPDATE jobs SET phase = 'queued' WHERE kind = 'compare'",
    "I1 a good job failed": "UPDATE jobs SET phase = 'failed' WHERE kind = 'fit'",
    "I2 success told twice": "INSERT INTO events (job_id, number, type, data) "
    "SELECT id, event_number + 1, 'job.succeeded', '{}' FROM jobs",
    "I2 success never told": "UPDATE events SET type = 'job.said' WHERE type = 'job.succeeded'",
    "I3 a fenced file": "UPDATE artifacts SET size = size WHERE attempt = 1",
    "I3 a fenced batch": "UPDATE attempts SET relayed = 99 WHERE number = 1",
    "I3 a fenced word": "INSERT INTO events (job_id, number, attempt, type, data) "
    "SELECT id, event_number + 1, 1, 'metric', '{}' FROM jobs WHERE kind = 'fit'",
    "I3 a gap": "DELETE FROM events WHERE number = 3",
    "I4 another state": "UPDATE artifacts a SET sha256 = b.sha256 FROM artifacts b "
    "WHERE a.path LIKE '%5/state.pt' AND b.path LIKE '%10/state.pt'",
    "I4 content gone": f"UPDATE artifacts SET sha256 = '{sha256(b'gone').hexdigest()}'",
    "I5 an open slot": "UPDATE attempts SET ended_at = NULL WHERE number = 1",
    "I6 an old beginning": "UPDATE events SET data = jsonb_set(data, '{step}', '4') "
    "WHERE type = 'metric' AND attempt = 2",
    "I6 much done again": "UPDATE events SET data = jsonb_set(data, '{step}', '11') "
    "WHERE type = 'metric' AND attempt = 1",
    "I7 an end undone": "UPDATE jobs SET phase = 'failed' WHERE kind = 'fit'",
    "I8 other weights": "UPDATE artifacts SET sha256 = repeat('0', 64) WHERE path LIKE 'model/%'",
}


def test_what_went_well_is_green(world: World) -> None:
    assert examine(world.evidence) == []


@pytest.mark.parametrize("tampering", TAMPERINGS)
def test_what_must_not_be_is_red(tampering: str, world: World) -> None:
    world.do(TAMPERINGS[tampering])
    assert tampering[:2] in invariants(world.evidence)


@pytest.mark.parametrize(
    ("invariant", "change"),
    [
        ("I1", lambda e: replace(e, accepted={**e.accepted, "key": {uuid4()}})),
        ("I1", lambda e: replace(e, accepted={"key-0": {uuid4()}})),
        ("I5", lambda e: replace(e, orphans=["4711 python trainer"])),
    ],
)
def test_what_clients_and_processes_show_counts(
    invariant: str, change: Callable[[Evidence], Evidence], world: World
) -> None:
    assert invariant in invariants(change(world.evidence))


def test_a_cancelled_experiment_may_end_cancelled(world: World) -> None:
    world.do("UPDATE jobs SET phase = 'cancelled' WHERE kind = 'compare'")
    assert "I1" in invariants(world.evidence)
    assert "I1" not in invariants(replace(world.evidence, cancelled={world.experiment}))


def invariants(evidence: Evidence) -> set[str]:
    return {violation.invariant for violation in examine(evidence)}

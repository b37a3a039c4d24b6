"""The oracle: what must hold after any faults, read from the ledger, the store and the process table.

I1 every accepted job exists and came to the end it should · I2 at most one success a job · I3 no write of
a fenced attempt is visible · I4 what is published is in the store, and manifests' hashes match · I5 no
orphan process or slot · I6 an attempt goes on from the newest published checkpoint, at most one interval
behind what was said before · I7 terminal states never change · I8 a training that was killed and resumed
ends with the weights of one that was not.
"""

import json
from collections.abc import Callable, Collection, Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from hashlib import file_digest, sha256
from pathlib import PurePosixPath
from typing import Any, Final
from uuid import UUID

from tests.chaos import toy_trainer
from worker.artifacts import ArtifactError, ArtifactStore
from worker.ledger import FileRef

Rows = Callable[..., list[tuple[Any, ...]]]


@dataclass(frozen=True)
class Violation:
    invariant: str
    what: str


@dataclass(frozen=True)
class Evidence:
    """``accepted``: the experiments that clients were told, by Idempotency-Key. ``cancelled``: the
    experiments that a client asked to cancel. ``orphans``: processes of lives that ended.

    ``end_of`` and ``twin_of`` take a job's id and spec and give the phase it should end in and the
    digest of the weights an undisturbed run would have made (None: unknown).
    """

    rows: Rows
    store: ArtifactStore
    accepted: Mapping[str, Collection[UUID]]
    cancelled: AbstractSet[UUID]
    orphans: Collection[str]
    end_of: Callable[[UUID, Mapping[str, Any]], str]
    twin_of: Callable[[UUID, Mapping[str, Any]], str | None]


def examine(evidence: Evidence) -> list[Violation]:
    """Empty is green."""
    return [
        Violation(invariant, what)
        for invariant, checks in CHECKS.items()
        for check in checks
        for what in check(evidence)
    ]


def toy_end(_: UUID, spec: Mapping[str, Any]) -> str:
    """How a toy ends that nobody cancels."""
    if spec["kind"] == "compare":
        return "succeeded"
    bad = toy_trainer.character(spec["seed"]) in {"poison", "wrong"}
    return "failed" if bad else "succeeded"


def toy_twin(_: UUID, spec: Mapping[str, Any]) -> str | None:
    if spec["kind"] == "compare":
        return None
    return sha256(toy_trainer.weights(spec["seed"], spec["train"]["steps"]).encode()).hexdigest()


def _accepted_is_there(evidence: Evidence) -> Iterator[str]:
    stored: dict[str, set[UUID]] = {}
    for id, key in evidence.rows("SELECT id, idempotency_key FROM experiments"):
        if key is not None:
            stored.setdefault(key, set()).add(id)
    for key, told in evidence.accepted.items():
        found = stored.get(key, set())
        if lost := set(told) - found:
            yield f"accepted under {key} and lost: {_list(lost)}"
        if len(found) > 1:
            yield f"{key} made {len(found)} experiments"


def _ended_as_it_should(evidence: Evidence) -> Iterator[str]:
    for id, phase, spec, reason, message, starved, experiments in evidence.rows(ENDS):
        expected = evidence.end_of(id, spec)
        cancelled = starved or evidence.cancelled & set(experiments)
        if phase != expected and not (phase == "cancelled" and cancelled):
            yield f"job {id} is {phase}, not {expected}: {reason} {message}"


def _succeeded_once(evidence: Evidence) -> Iterator[str]:
    for table, told in SUCCESSES.items():
        for row in evidence.rows(told):
            yield f"{table}: job {row[0]} succeeded {row[1]} times"


def _audited(invariant: str) -> Callable[[Evidence], Iterator[str]]:
    def check(evidence: Evidence) -> Iterator[str]:
        if evidence.rows("SELECT to_regclass('audit') IS NOT NULL") == [(True,)]:
            told = "SELECT what FROM audit WHERE invariant = :invariant ORDER BY id"
            yield from (what for (what,) in evidence.rows(told, invariant=invariant))

    return check


def _in_order(evidence: Evidence) -> Iterator[str]:
    for what, statement in DISORDER.items():
        for (job,) in evidence.rows(statement):
            yield f"job {job}: {what}"


def _stored(evidence: Evidence) -> Iterator[str]:
    for digest, size in evidence.rows("SELECT DISTINCT sha256, size FROM artifacts"):
        try:
            with evidence.store.open(FileRef(digest, size)) as file:
                found = file_digest(file, "sha256").hexdigest()
        except ArtifactError as error:
            yield error.message
        else:
            if found != digest:
                yield f"published content {digest} is now {found}"


def _manifests_match(evidence: Evidence) -> Iterator[str]:
    published = {
        (job, attempt, path): FileRef(digest, size)
        for job, attempt, path, digest, size in evidence.rows(
            "SELECT job_id, attempt, path, sha256, size FROM artifacts WHERE step IS NOT NULL"
        )
    }
    for (job, attempt, path), ref in published.items():
        folder, name = str(PurePosixPath(path).parent), PurePosixPath(path).name
        if name != "manifest.json":
            continue
        try:
            with evidence.store.open(ref) as file:
                promised = json.load(file)["files"]
        except (ArtifactError, ValueError):
            yield f"the manifest {path} of job {job}, attempt {attempt}, cannot be read"
            continue
        for file_name, entry in promised.items():
            held = published.get((job, attempt, f"{folder}/{PurePosixPath(file_name).name}"))
            if held is None or held.sha256 != entry["sha256"]:
                yield f"{path} of job {job}, attempt {attempt}, promises another {file_name}"


def _no_orphans(evidence: Evidence) -> Iterator[str]:
    yield from (f"process {name}" for name in evidence.orphans)
    for job, number in evidence.rows(OPEN_SLOTS):
        yield f"attempt {number} of job {job} never ended, and the job has"


def _little_rework(evidence: Evidence) -> Iterator[str]:
    for job, attempt, published, first, said, every in evidence.rows(REWORK):
        start = published or 0
        if first is not None and first < start:
            yield f"attempt {attempt} of job {job} began at {first}, {start} was published"
        if said is not None and every is not None and said - start > every:
            yield f"attempt {attempt} of job {job} goes on from {start}, {said} had been said"


def _equal_to_twins(evidence: Evidence) -> Iterator[str]:
    for job, spec, digest in evidence.rows(WEIGHTS):
        expected = evidence.twin_of(job, spec)
        if expected is not None and digest != expected:
            yield f"the weights of job {job} are {digest}, those of its twin {expected}"


CHECKS: Final[dict[str, tuple[Callable[[Evidence], Iterator[str]], ...]]] = {
    "I1": (_accepted_is_there, _ended_as_it_should),
    "I2": (_succeeded_once,),
    "I3": (_audited("I3"), _in_order),
    "I4": (_stored, _manifests_match),
    "I5": (_no_orphans,),
    "I6": (_little_rework,),
    "I7": (_audited("I7"),),
    "I8": (_equal_to_twins,),
}

ENDS: Final = """
SELECT j.id, j.phase, j.spec, j.reason, j.message,
    EXISTS (SELECT FROM job_inputs i JOIN jobs s ON s.id = i.source_job_id
        WHERE i.job_id = j.id AND s.phase IN ('failed', 'cancelled')),
    ARRAY(SELECT experiment_id FROM experiment_jobs e WHERE e.job_id = j.id)
FROM jobs j
"""
SUCCESSES: Final = {
    "events": "SELECT job_id, count(*) FROM events WHERE type = 'job.succeeded' "
    "GROUP BY job_id HAVING count(*) > 1",
    "attempts": "SELECT job_id, count(*) FROM attempts WHERE ended_as = 'succeeded' "
    "GROUP BY job_id HAVING count(*) > 1",
    "jobs": "SELECT j.id, count(e.number) FROM jobs j LEFT JOIN events e ON e.job_id = j.id "
    "AND e.type = 'job.succeeded' GROUP BY j.id HAVING (j.phase = 'succeeded') <> (count(e.number) = 1)",
    "model versions": "SELECT job_id, count(*) FROM model_versions "
    "GROUP BY job_id, model_id HAVING count(*) > 1",
}
DISORDER: Final = {
    "its events have gaps": "SELECT j.id FROM jobs j JOIN events e ON e.job_id = j.id GROUP BY j.id "
    "HAVING count(*) <> max(e.number) OR min(e.number) <> 1 OR max(e.number) <> j.event_number",
    "an attempt spoke after a later one": "SELECT DISTINCT job_id FROM (SELECT job_id, attempt, "
    "lag(attempt) OVER (PARTITION BY job_id ORDER BY number) AS before FROM events "
    "WHERE attempt IS NOT NULL) AS pairs WHERE attempt < before",
}
OPEN_SLOTS: Final = (
    "SELECT a.job_id, a.number FROM attempts a JOIN jobs j ON j.id = a.job_id "
    "WHERE a.ended_at IS NULL AND (j.phase <> 'running' OR a.number < j.attempt)"
)
WEIGHTS: Final = (
    "SELECT j.id, j.spec, a.sha256 FROM jobs j "
    "JOIN artifacts a ON a.job_id = j.id AND a.attempt = j.attempt "
    "WHERE j.phase = 'succeeded' AND a.path = 'model/model.safetensors'"
)
REWORK: Final = """
SELECT c.job_id, c.attempt,
    (SELECT max((p.data->>'step')::int) FROM events p WHERE p.job_id = c.job_id
        AND p.type = 'job.checkpoint_published' AND p.number < c.number),
    (SELECT min((m.data->>'step')::int) FROM events m WHERE m.job_id = c.job_id
        AND m.type = 'metric' AND m.attempt = c.attempt),
    (SELECT max((m.data->>'step')::int) FROM events m JOIN attempts a
        ON a.job_id = m.job_id AND a.number = m.attempt
        WHERE m.job_id = c.job_id AND m.type = 'metric' AND m.attempt = c.attempt - 1
        AND a.ended_as IN ('trainer_killed', 'trainer_crashed')),
    (j.spec->'train'->>'checkpoint_every')::int
FROM events c JOIN jobs j ON j.id = c.job_id
WHERE c.type = 'job.claimed' AND c.attempt > 1
"""


def _list(ids: Collection[UUID]) -> str:
    return ", ".join(sorted(map(str, ids)))

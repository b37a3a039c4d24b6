"""Which files of attempts go with time, and which contents are named by whom."""

from uuid import UUID

import pytest
from sqlalchemy import insert, text

from kdcore.spec import FailureKind
from tests.worker.ledger import making
from worker.ledger import FileRef, Ledger, jobs, retention, thumbnails
from worker.ledger.retention import Policy
from worker.ledger.tables import ArtifactRow, Base, ThumbnailRow
from worker.ledger.thumbnails import Thumbnail

KEEP = Policy(succeeded_days=None, failed_days=None, attempt_days=None)


def test_of_a_live_job_the_newest_two_checkpoints_stay(ledger: Ledger) -> None:
    claim = start(ledger)
    for step in (5, 10, 15, 20):
        making.publish(ledger, claim, step)
    assert expire(ledger, Policy(checkpoints=0, succeeded_days=0, failed_days=0)) == 4
    assert steps(ledger, claim.job_id) == [15, 20]
    making.interrupt(ledger, claim)
    again = making.take(ledger)
    assert again.checkpoint is not None
    assert again.older_checkpoint is not None
    assert (again.checkpoint.step, again.older_checkpoint.step) == (20, 15)
    assert len(again.checkpoint.files) == len(again.older_checkpoint.files) == 2


def test_more_checkpoints_stay_where_that_is_wanted(ledger: Ledger) -> None:
    claim = start(ledger)
    for step in (5, 10, 15, 20):
        making.publish(ledger, claim, step)
    expire(ledger, Policy(checkpoints=3))
    assert steps(ledger, claim.job_id) == [10, 15, 20]


def test_of_a_step_that_two_attempts_published_the_later_stays(ledger: Ledger) -> None:
    claim = start(ledger)
    making.publish(ledger, claim, 5)
    making.publish(ledger, claim, 10)
    making.interrupt(ledger, claim)
    again = making.take(ledger)
    making.publish(ledger, again, 10)
    assert expire(ledger, KEEP) == 2
    assert [
        (row.attempt, row.step) for row in rows(ledger, claim.job_id, "path LIKE '%state.pt'")
    ] == [(1, 5), (2, 10)]


def test_checkpoints_of_jobs_that_ended_stay_as_long_as_the_policy_says(ledger: Ledger) -> None:
    good = start(ledger, seed=0)
    making.publish(ledger, good, 5)
    making.succeed(ledger, good)
    making.succeed(ledger, making.take(ledger))
    bad = start(ledger, seed=1)
    making.publish(ledger, bad, 5)
    making.fail(ledger, bad)
    days_pass(ledger, 10)
    expire(ledger, Policy(succeeded_days=11, failed_days=11))
    assert steps(ledger, good.job_id) == steps(ledger, bad.job_id) == [5]
    expire(ledger, Policy(succeeded_days=9))
    assert (steps(ledger, good.job_id), steps(ledger, bad.job_id)) == ([], [5])
    expire(ledger, Policy(failed_days=9))
    assert steps(ledger, bad.job_id) == []
    # The model is what counts, and it stays.
    assert {row.path for row in rows(ledger, good.job_id)} == set(making.MODEL_FILES)


def test_files_of_former_attempts_go_and_those_of_the_last_stay(ledger: Ledger) -> None:
    claim = start(ledger)
    log = {"log.txt": FileRef("1" * 64, 1)}
    for _ in range(2):
        with ledger.unit_of_work() as session:
            jobs.publish(session, job_id=claim.job_id, attempt=claim.attempt, files=log, step=None)
        making.interrupt(ledger, claim)
        claim = making.take(ledger)
    making.fail(ledger, claim, FailureKind.CODE_ERROR)
    days_pass(ledger, 10)
    assert expire(ledger, KEEP) == 0
    assert expire(ledger, Policy(attempt_days=11)) == 0
    assert expire(ledger, Policy(attempt_days=9, failed_days=0)) == 2
    assert rows(ledger, claim.job_id) == []


def test_at_most_so_many_at_once(ledger: Ledger) -> None:
    claim = start(ledger)
    for step in range(5, 30, 5):
        making.publish(ledger, claim, step)
    assert expire(ledger, KEEP, limit=4) == 4
    assert expire(ledger, KEEP, limit=4) == 2
    assert expire(ledger, KEEP, limit=4) == 0


def test_every_kind_of_reference_counts(ledger: Ledger) -> None:
    making.register(ledger, content="a1" * 32)
    revision = making.register(ledger, name="other", content="a2" * 32)
    with ledger.unit_of_work() as session:
        thumbnails.keep(
            session,
            revision_id=revision.id,
            thumbnails=[Thumbnail("train", 0, "a", FileRef("a3" * 32, 1))],
        )
    claim = start(ledger)
    making.publish(ledger, claim, 5, content="a4" * 32)
    making.succeed(ledger, claim)
    with ledger.unit_of_work() as session:
        session.execute(text("DELETE FROM artifacts WHERE step IS NULL"))
    named = {digest for shard in "0123456789abcdef" for digest in referenced(ledger, shard)}
    assert named == {
        *(f"a{number}" * 32 for number in (1, 2, 3, 4)),
        making.SHA,  # of the dataset `nuclei` that `start` registers, and of the model's weights
        making.SHA[::-1],  # of the model's card: only the version names it now
    }
    assert referenced(ledger, "a") == {f"a{number}" * 32 for number in (1, 2, 3, 4)}


def test_no_table_names_contents_unknown_to_the_sweep() -> None:
    """Whoever adds a column that names files adds it to `referenced`."""
    suspects = {
        f"{table.name}.{column.name}"
        for table in Base.metadata.tables.values()
        for column in table.columns
        if column.name in {"sha256", "files", "manifest"} or column.name.endswith("_sha256")
    }
    assert suspects == {
        f"{ArtifactRow.__tablename__}.sha256",
        f"{ThumbnailRow.__tablename__}.sha256",
        "dataset_revisions.manifest",
        "model_versions.files",
    }


@pytest.mark.slow
def test_marking_is_quick_with_many_files(ledger: Ledger) -> None:
    claim = start(ledger)
    files = [
        {
            "job_id": claim.job_id,
            "attempt": 1,
            "path": f"f{number}",
            "sha256": f"{number * 2654435761 % 2**32:08x}" * 8,
            "size": 1,
        }
        for number in range(50_000)
    ]
    with ledger.unit_of_work() as session:
        session.execute(insert(ArtifactRow), files)
    assert 2500 < len(referenced(ledger, "7")) < 4000


def start(ledger: Ledger, *, seed: int = 0) -> jobs.Claim:
    making.register(ledger)
    making.submit(ledger, making.training(seeds=[seed], name=f"plain-{seed}"))
    return making.take(ledger)


def expire(ledger: Ledger, policy: Policy, *, limit: int = 1000) -> int:
    with ledger.unit_of_work() as session:
        return retention.expire(session, policy, limit=limit)


def referenced(ledger: Ledger, shard: str) -> set[str]:
    with ledger.unit_of_work() as session:
        return retention.referenced(session, shard=shard)


def rows(ledger: Ledger, job_id: UUID, condition: str = "true") -> list:
    query = f"SELECT * FROM artifacts WHERE job_id = :id AND {condition} ORDER BY step, path"
    with ledger.unit_of_work() as session:
        return list(session.execute(text(query), {"id": job_id}))


def steps(ledger: Ledger, job_id: UUID) -> list[int]:
    return sorted({row.step for row in rows(ledger, job_id, "step IS NOT NULL")})


def days_pass(ledger: Ledger, days: int) -> None:
    """As if everything so far had happened so many days earlier."""
    with ledger.unit_of_work() as session:
        for table, column in (("jobs", "finished_at"), ("artifacts", "created_at")):
            session.execute(
                text(f"UPDATE {table} SET {column} = {column} - make_interval(days => :days)"),
                {"days": days},
            )

"""What the tracking server still lacks, and how that becomes less."""

from functools import partial
from uuid import UUID

from sqlalchemy import delete

from tests.worker.ledger import making
from tests.worker.ledger.threads import at_once
from worker.ledger import Ledger, projection
from worker.ledger.forgetting import forget_jobs
from worker.ledger.jobs import Claim
from worker.ledger.projection import PendingRun
from worker.ledger.tables import ExperimentJobRow


def test_points_are_pending_until_they_are_marked(ledger: Ledger) -> None:
    claim = start(ledger)
    assert pending(ledger) == []
    making.relay(ledger, claim, [making.metric(step, loss=1.0, acc=0.5) for step in (1, 2)])
    (run,) = pending(ledger)
    assert (run.experiment_name, run.key, run.owner) == ("plain", "model-0", making.OWNER)
    assert run.spec["model"]["arch"] == "unet"
    assert [(p.key, p.step) for p in run.points] == [
        ("acc", 1),
        ("loss", 1),
        ("acc", 2),
        ("loss", 2),
    ]
    assert not run.complete
    mark(ledger, run, 3)
    (run,) = pending(ledger)
    assert [(p.key, p.step) for p in run.points] == [("loss", 2)]
    mark(ledger, run, 1)
    assert pending(ledger) == []


def test_a_run_is_closed_after_its_last_point(ledger: Ledger) -> None:
    claim = start(ledger)
    making.relay(ledger, claim, [making.metric(step, loss=1.0) for step in (1, 2, 3)])
    making.succeed(ledger, claim)
    (part,) = pending(ledger, limit=2)
    assert len(part.points) == 2
    assert not part.complete
    mark(ledger, part, 2)
    (rest,) = pending(ledger, limit=2)
    assert rest.complete
    mark(ledger, rest, 1)
    (empty,) = pending(ledger)
    assert empty.complete
    assert empty.points == []
    with ledger.unit_of_work() as session:
        projection.close_run(session, job_id=claim.job_id, run_id="r1")
    assert pending(ledger) == []


def test_a_job_that_never_started_has_no_run(ledger: Ledger) -> None:
    making.register(ledger)
    experiment_id = making.submit(ledger, making.training())
    making.cancel(ledger, making.jobs_of(ledger, experiment_id)["model-0"].id)
    assert pending(ledger) == []


def test_one_of_several_runs_stands(ledger: Ledger) -> None:
    claim = start(ledger)

    def set_run(run_id: str) -> str:
        with ledger.unit_of_work() as session:
            return projection.set_run(session, job_id=claim.job_id, run_id=run_id)

    standing = at_once([partial(set_run, f"r{n}") for n in range(6)])
    assert len(set(standing)) == 1
    assert set_run("late") == standing[0] == making.job(ledger, claim.job_id).mlflow_run_id


def test_all_jobs_have_their_turn(ledger: Ledger) -> None:
    making.register(ledger)
    for seed in range(3):
        making.submit(ledger, making.training(seeds=[seed], name=f"plain-{seed}"))
    for _ in range(3):
        making.relay(ledger, making.take(ledger), [making.metric(1, loss=1.0)])
    after: UUID | None = None
    served = []
    for _ in range(4):
        with ledger.unit_of_work() as session:
            (run,) = projection.pending(session, after=after, runs=1)
        after = run.id
        served.append(run.id)
    assert len(set(served[:3])) == 3
    assert served[3] == served[0]
    with ledger.unit_of_work() as session:
        rest = projection.pending(session, skip=served[:2])
    assert [run.id for run in rest] == [served[2]]


def test_a_job_that_another_replaced_is_still_its_experiments(ledger: Ledger) -> None:
    """As a retry does, which puts a new job in its place."""
    claim = start(ledger)
    making.fail(ledger, claim)
    (before,) = pending(ledger)
    with ledger.unit_of_work() as session:
        session.execute(delete(ExperimentJobRow).where(ExperimentJobRow.job_id == claim.job_id))
    (run,) = pending(ledger)
    assert (run.experiment_id, run.key) == (before.experiment_id, before.key)
    assert run.experiment_ids == before.experiment_ids


def test_the_lag_is_what_was_not_brought(ledger: Ledger) -> None:
    assert lag(ledger) == projection.ProjectorLag(points=0, seconds=0.0, runs=0)
    claim = start(ledger)
    making.relay(ledger, claim, [making.metric(step, loss=1.0) for step in (1, 2, 3)])
    behind = lag(ledger)
    assert (behind.points, behind.runs) == (3, 0)
    assert behind.seconds > 3600  # since the time that the trainer gave the points
    making.succeed(ledger, claim)
    (run,) = pending(ledger)
    mark(ledger, run, 3)
    assert lag(ledger) == projection.ProjectorLag(points=0, seconds=0.0, runs=1)
    with ledger.unit_of_work() as session:
        projection.close_run(session, job_id=run.id, run_id="r1")
    assert lag(ledger).runs == 0


def test_what_was_forgotten_is_pending_again(ledger: Ledger) -> None:
    claim = start(ledger)
    making.relay(ledger, claim, [making.metric(step, loss=1.0) for step in (1, 2)])
    making.succeed(ledger, claim)
    (run,) = pending(ledger)
    mark(ledger, run, 2)
    with ledger.unit_of_work() as session:
        projection.close_run(session, job_id=run.id, run_id="r1")
    after: UUID | None = None
    while True:
        with ledger.unit_of_work() as session:
            after = forget_jobs(session, after=after)
        if after is None:
            break
    with ledger.unit_of_work() as session:  # of a worker that brings it to the old run just now
        points = [(point.key, point.step) for point in run.points]
        projection.mark_projected(session, job_id=run.id, run_id="r1", points=points)
        projection.close_run(session, job_id=run.id, run_id="r1")
    (again,) = pending(ledger)
    assert (again.run_id, again.points, again.complete) == (None, run.points, True)


def start(ledger: Ledger) -> Claim:
    making.register(ledger)
    making.submit(ledger, making.training())
    return making.take(ledger)


def lag(ledger: Ledger) -> projection.ProjectorLag:
    with ledger.unit_of_work() as session:
        return projection.lag(session)


def pending(ledger: Ledger, *, limit: int = 100) -> list[PendingRun]:
    with ledger.unit_of_work() as session:
        return projection.pending(session, limit=limit)


def mark(ledger: Ledger, run: PendingRun, count: int) -> None:
    points = [(point.key, point.step) for point in run.points[:count]]
    with ledger.unit_of_work() as session:
        projection.set_run(session, job_id=run.id, run_id="r1")
        projection.mark_projected(session, job_id=run.id, run_id="r1", points=points)

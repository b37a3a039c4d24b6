"""What the tracking server still lacks, and how that becomes less."""

from functools import partial

from tests.worker.ledger import making
from tests.worker.ledger.threads import at_once
from worker.ledger import Ledger, projection
from worker.ledger.jobs import Claim
from worker.ledger.projection import PendingRun


def test_points_are_pending_until_they_are_marked(ledger: Ledger) -> None:
    claim = start(ledger)
    assert pending(ledger) == []
    making.relay(ledger, claim, [making.metric(step, loss=1.0, acc=0.5) for step in (1, 2)])
    (run,) = pending(ledger)
    assert (run.experiment_name, run.key, run.owner) == ("plain", "model-0", making.OWNER)
    assert run.params["model"]["arch"] == "unet"
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
        projection.close_run(session, job_id=claim.job_id)
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


def start(ledger: Ledger) -> Claim:
    making.register(ledger)
    making.submit(ledger, making.training())
    return making.take(ledger)


def pending(ledger: Ledger, *, limit: int = 100) -> list[PendingRun]:
    with ledger.unit_of_work() as session:
        return projection.pending(session, limit=limit)


def mark(ledger: Ledger, run: PendingRun, count: int) -> None:
    points = [(point.key, point.step) for point in run.points[:count]]
    with ledger.unit_of_work() as session:
        projection.mark_projected(session, job_id=run.job.id, points=points)

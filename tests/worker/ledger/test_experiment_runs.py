"""Which experiments the tracking server lacks something of."""

from uuid import UUID

from tests.worker.ledger import making
from worker.ledger import Ledger, Phase, experiments, projection
from worker.ledger import experiment_runs as runs
from worker.ledger.experiment_runs import PendingExperiment
from worker.ledger.forgetting import forget_the_rest


def test_an_experiment_is_pending_once_a_job_has_started(ledger: Ledger) -> None:
    making.register(ledger)
    id = making.submit(ledger, making.training())
    assert pending(ledger) == []
    making.take(ledger)
    (waiting,) = pending(ledger)
    assert (waiting.id, waiting.started, waiting.complete) == (id, True, False)
    assert waiting.dataset == "nuclei@1"
    assert waiting.runs == []
    set_run(ledger, id, "e1")
    assert pending(ledger) == []


def test_runs_of_jobs_are_told_once(ledger: Ledger) -> None:
    id, job_id = started(ledger)
    set_job_run(ledger, job_id, "r1")
    (waiting,) = pending(ledger)
    (run,) = waiting.runs
    assert (run.key, run.run_id, run.told, run.experiment_ids) == ("model-0", "r1", False, [id])
    tell(ledger, waiting)
    assert pending(ledger) == []


def test_it_is_complete_when_all_runs_are_closed(ledger: Ledger) -> None:
    making.register(ledger)
    id = making.submit(ledger, making.training())
    claim = making.take(ledger)
    set_run(ledger, id, "e1")
    making.fail(ledger, claim)
    assert pending(ledger) == []  # first the run of the job
    set_job_run(ledger, claim.job_id, "r1")
    close_job_run(ledger, claim.job_id)
    (waiting,) = pending(ledger)
    assert (waiting.complete, waiting.phase) == (True, Phase.FAILED)
    close(ledger, id)
    assert pending(ledger) == []


def test_what_is_cancelled_after_its_last_run_is_closed_all_the_same(ledger: Ledger) -> None:
    id, job_id = started(ledger, done=True)
    set_job_run(ledger, job_id, "r1")
    close_job_run(ledger, job_id)
    tell(ledger, pending(ledger)[0])
    assert pending(ledger) == []  # the verdict is still to come
    with ledger.unit_of_work() as session:
        experiments.cancel_experiment(session, owner=making.OWNER, id=id)
    (waiting,) = pending(ledger)
    assert (waiting.complete, waiting.phase) == (True, Phase.CANCELLED)


def test_an_experiment_of_which_nothing_ran_has_no_run(ledger: Ledger) -> None:
    making.register(ledger)
    id = making.submit(ledger, making.training())
    with ledger.unit_of_work() as session:
        experiments.cancel_experiment(session, owner=making.OWNER, id=id)
    (waiting,) = pending(ledger)
    assert (waiting.started, waiting.complete) == (False, True)
    close(ledger, id, run_id=None)
    assert pending(ledger) == []


def test_a_shared_job_is_told_to_each_of_its_experiments(ledger: Ledger) -> None:
    first, job_id = started(ledger, done=True)
    second = making.submit(ledger, making.training(name="again"))
    set_job_run(ledger, job_id, "r1")
    waiting = {experiment.id: experiment for experiment in pending(ledger)}
    assert set(waiting) == {first, second}
    assert waiting[second].started  # what it needs was done before it came
    assert [run.experiment_ids for run in waiting[second].runs] == [[first, second]]


def test_a_retry_opens_an_experiment_again(ledger: Ledger) -> None:
    id, job_id = started(ledger)
    close(ledger, id)
    assert pending(ledger) == []
    set_job_run(ledger, job_id, "r1")  # of the job that has taken the place of the failed one
    (waiting,) = pending(ledger)
    assert waiting.id == id


def test_a_run_that_was_forgotten_is_not_closed(ledger: Ledger) -> None:
    id, job_id = started(ledger)
    set_job_run(ledger, job_id, "r1")
    tell(ledger, pending(ledger)[0])
    with ledger.unit_of_work() as session:
        forget_the_rest(session)
    close(ledger, id)
    (waiting,) = pending(ledger)
    assert (waiting.run_id, [run.told for run in waiting.runs]) == (None, [False])


def test_the_first_run_stands(ledger: Ledger) -> None:
    id, _ = started(ledger)
    assert set_run(ledger, id, "late") == "e1"


def started(ledger: Ledger, *, done: bool = False) -> tuple[UUID, UUID]:
    """An experiment with a run, and its first job."""
    making.register(ledger)
    id = making.submit(ledger, making.training())
    claim = making.take(ledger)
    if done:
        making.succeed(ledger, claim)
    set_run(ledger, id, "e1")
    return id, claim.job_id


def pending(ledger: Ledger) -> list[PendingExperiment]:
    with ledger.unit_of_work() as session:
        return runs.pending_experiments(session, limit=10)


def set_run(ledger: Ledger, id: UUID, run_id: str) -> str:
    with ledger.unit_of_work() as session:
        return runs.set_experiment_run(session, experiment_id=id, run_id=run_id)


def set_job_run(ledger: Ledger, job_id: UUID, run_id: str) -> None:
    with ledger.unit_of_work() as session:
        projection.set_run(session, job_id=job_id, run_id=run_id)


def close_job_run(ledger: Ledger, job_id: UUID) -> None:
    with ledger.unit_of_work() as session:
        projection.close_run(session, job_id=job_id, run_id="r1")


def tell(ledger: Ledger, experiment: PendingExperiment) -> None:
    with ledger.unit_of_work() as session:
        runs.mark_told(session, experiment_id=experiment.id, runs=experiment.runs)


def close(ledger: Ledger, id: UUID, *, run_id: str | None = "e1") -> None:
    with ledger.unit_of_work() as session:
        runs.close_experiment_run(session, experiment_id=id, run_id=run_id)

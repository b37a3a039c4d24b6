"""Retries: a new job in the place of the old one, and what comes back with it."""

from functools import partial
from uuid import UUID

import pytest
from sqlalchemy import text

from kdcore.spec import FailureKind
from tests.worker.ledger import making
from tests.worker.ledger.test_propagation import take_key
from tests.worker.ledger.threads import at_once
from worker.ledger import Ledger, NotAllowedNow, Phase, models, projection, reading
from worker.ledger.experiments import cancel_experiment, retry_experiment


def test_a_new_job_goes_on_from_the_last_checkpoint(ledger: Ledger) -> None:
    making.register(ledger)
    experiment_id = making.submit(ledger, making.training())
    first = making.take(ledger)
    making.relay(ledger, first, [making.metric(step, loss=float(step)) for step in (5, 10, 11)])
    for step in (5, 10):
        making.publish(ledger, first, step, size=step)
    making.fail(ledger, first)
    before = making.job(ledger, first.job_id)

    again = making.retry(ledger, first.job_id)
    assert again.id != first.job_id
    assert (again.retry_of, again.phase, again.attempt) == (first.job_id, Phase.QUEUED, 0)
    assert again.checkpoint_step == 10
    assert making.job(ledger, first.job_id) == before
    assert making.jobs_of(ledger, experiment_id)["model-0"].id == again.id
    assert making.events(ledger, again.id)[0].data == {
        "phase": "queued",
        "retry_of": str(first.job_id),
    }
    second = making.take(ledger)
    assert second.job_id == again.id
    assert second.checkpoint is not None
    assert second.older_checkpoint is not None
    assert (second.checkpoint.step, second.older_checkpoint.step) == (10, 5)
    assert curve(ledger, again.id) == [5, 10]
    making.relay(ledger, second, [making.metric(step, loss=0.0) for step in (11, 12)])
    assert curve(ledger, again.id) == [5, 10, 11, 12]


def test_a_retry_of_a_retry_has_all_their_checkpoints(ledger: Ledger) -> None:
    making.register(ledger)
    making.submit(ledger, making.training())
    first = making.take(ledger)
    making.publish(ledger, first, 5)
    making.fail(ledger, first)
    making.retry(ledger, first.job_id)
    second = making.take(ledger)
    making.publish(ledger, second, 10)
    making.fail(ledger, second)
    making.retry(ledger, second.job_id)
    third = making.take(ledger)
    assert third.checkpoint is not None
    assert third.older_checkpoint is not None
    assert (third.checkpoint.step, third.older_checkpoint.step) == (10, 5)
    with ledger.unit_of_work() as session:
        session.execute(text("DELETE FROM artifacts"))
    making.interrupt(ledger, third)
    assert making.take(ledger).checkpoint is None, "what is no longer stored is not handed out"


def test_a_failure_is_forgiven(ledger: Ledger) -> None:
    making.register(ledger)
    making.submit(ledger, making.training())
    first = making.take(ledger)
    making.fail(ledger, first)
    making.retry(ledger, first.job_id)
    assert making.fail(ledger, making.take(ledger), FailureKind.TRAINER_KILLED) is Phase.QUEUED


def test_what_fell_with_it_comes_back(ledger: Ledger) -> None:
    making.register(ledger)
    experiment_id = making.submit(ledger, making.distillation())
    teacher = take_key(ledger, experiment_id, "teacher-big")
    making.fail(ledger, teacher)
    fallen = making.jobs_of(ledger, experiment_id)
    making.retry(ledger, teacher.job_id)
    shown = making.jobs_of(ledger, experiment_id)
    assert {key: job.phase for key, job in shown.items()} == {
        "teacher-big": Phase.QUEUED,
        "baseline-0": Phase.QUEUED,
        "distilled-0": Phase.WAITING,
        "verdict": Phase.WAITING,
    }
    assert shown["baseline-0"].id == fallen["baseline-0"].id
    assert shown["distilled-0"].needs == [shown["teacher-big"].id]
    while (claim := making.try_take(ledger)) is not None:
        making.succeed(ledger, claim)
    assert set(making.phases(ledger, experiment_id).values()) == {Phase.SUCCEEDED}
    with ledger.unit_of_work() as session:
        page = models.list_models(session, owner=making.OWNER)
    assert {model.name for model in page.items} == {
        "demo-teacher-big",
        "demo-baseline",
        "demo-distilled",
    }


def test_what_fell_for_another_reason_too_stays_down(ledger: Ledger) -> None:
    making.register(ledger)
    experiment_id = making.submit(ledger, making.distillation())
    shown = making.jobs_of(ledger, experiment_id)
    making.cancel(ledger, shown["teacher-big"].id)
    making.cancel(ledger, shown["baseline-0"].id)
    making.retry(ledger, shown["teacher-big"].id)
    assert making.phases(ledger, experiment_id) == {
        "teacher-big": Phase.QUEUED,
        "baseline-0": Phase.CANCELLED,
        "distilled-0": Phase.WAITING,
        "verdict": Phase.CANCELLED,
    }
    making.retry(ledger, shown["baseline-0"].id)
    assert making.phases(ledger, experiment_id)["verdict"] is Phase.WAITING


def test_a_dependent_brings_its_sources_along(ledger: Ledger) -> None:
    making.register(ledger)
    experiment_id = making.submit(ledger, making.distillation())
    teacher = take_key(ledger, experiment_id, "teacher-big")
    making.fail(ledger, teacher)
    distilled = making.jobs_of(ledger, experiment_id)["distilled-0"]
    again = making.retry(ledger, distilled.id)
    assert again.phase is Phase.WAITING
    shown = making.phases(ledger, experiment_id)
    assert shown["teacher-big"] is Phase.QUEUED
    assert shown["verdict"] is Phase.WAITING


def test_asking_twice_is_the_same(ledger: Ledger) -> None:
    making.register(ledger)
    experiment_id = making.submit(ledger, making.distillation())
    teacher = take_key(ledger, experiment_id, "teacher-big")
    making.fail(ledger, teacher)
    ends = at_once([partial(making.retry, ledger, teacher.job_id) for _ in range(6)])
    assert {end.id for end in ends} == {making.jobs_of(ledger, experiment_id)["teacher-big"].id}
    with ledger.unit_of_work() as session:
        assert session.scalar(text("SELECT count(*) FROM jobs")) == 4 + 3


def test_the_newest_try_is_the_one_to_retry(ledger: Ledger) -> None:
    making.register(ledger)
    making.submit(ledger, making.training())
    first = making.take(ledger)
    making.fail(ledger, first)
    making.retry(ledger, first.job_id)
    making.fail(ledger, making.take(ledger))
    with pytest.raises(NotAllowedNow, match="no experiment waits"):
        making.retry(ledger, first.job_id)


@pytest.mark.parametrize("phase", ["queued", "running", "succeeded"])
def test_only_what_ended_badly_is_tried_again(ledger: Ledger, phase: str) -> None:
    making.register(ledger)
    experiment_id = making.submit(ledger, making.training())
    job_id = making.jobs_of(ledger, experiment_id)["model-0"].id
    if phase != "queued":
        claim = making.take(ledger)
    if phase == "succeeded":
        making.succeed(ledger, claim)
    with pytest.raises(NotAllowedNow, match=phase):
        making.retry(ledger, job_id)
    with pytest.raises(NotAllowedNow):
        making.steer(ledger, retry_experiment, experiment_id)


def test_equal_work_that_was_done_meanwhile_is_taken(ledger: Ledger) -> None:
    making.register(ledger)
    first = making.submit(ledger, making.training())
    claim = making.take(ledger)
    making.fail(ledger, claim)
    making.submit(ledger, making.training(name="meanwhile"))
    done = making.take(ledger)
    making.succeed(ledger, done)
    assert making.retry(ledger, claim.job_id).id == done.job_id
    shown = making.jobs_of(ledger, first)
    assert (shown["model-0"].id, shown["model-0"].reused) == (done.job_id, True)
    assert shown["verdict"].phase is Phase.QUEUED
    with ledger.unit_of_work() as session:
        version = models.resolve(session, owner=making.OWNER, ref="models:/plain-model/1")
    assert version.job_id == done.job_id


def test_equal_work_under_way_is_shared(ledger: Ledger) -> None:
    making.register(ledger)
    first = making.submit(ledger, making.training())
    claim = making.take(ledger)
    making.fail(ledger, claim)
    making.submit(ledger, making.training(name="meanwhile"))
    running = making.take(ledger)
    making.retry(ledger, claim.job_id)
    making.succeed(ledger, running)
    assert making.phases(ledger, first) == {"model-0": Phase.SUCCEEDED, "verdict": Phase.QUEUED}


def test_every_experiment_that_waits_gets_the_new_job(ledger: Ledger) -> None:
    making.register(ledger)
    ids = [making.submit(ledger, making.training(name=name)) for name in ("a", "b", "c")]
    making.steer(ledger, cancel_experiment, ids[2])
    claim = making.take(ledger)
    making.fail(ledger, claim)
    again = making.retry(ledger, claim.job_id)
    held = [making.jobs_of(ledger, id)["model-0"].id for id in ids]
    assert held == [again.id, again.id, claim.job_id]
    assert set(making.job(ledger, claim.job_id).experiment_ids) == set(ids)


def test_a_cancelled_experiment_comes_back_as_a_whole(ledger: Ledger) -> None:
    making.register(ledger)
    experiment_id = making.submit(ledger, making.distillation())
    claim = take_key(ledger, experiment_id, "teacher-big")
    making.publish(ledger, claim, 7)
    making.steer(ledger, cancel_experiment, experiment_id)
    with pytest.raises(NotAllowedNow, match="still being cancelled"):
        making.steer(ledger, retry_experiment, experiment_id)
    making.interrupt(ledger, claim)
    with pytest.raises(NotAllowedNow, match="each was cancelled"):
        making.retry(ledger, claim.job_id)

    shown = making.steer(ledger, retry_experiment, experiment_id)
    assert (shown.phase, shown.cancel_requested) == (Phase.QUEUED, False)
    assert [job.phase for job in shown.jobs] == [
        Phase.QUEUED,
        Phase.QUEUED,
        Phase.WAITING,
        Phase.WAITING,
    ]
    taken = making.take(ledger)
    assert taken.checkpoint is not None
    assert taken.checkpoint.step == 7
    making.succeed(ledger, taken)
    while (claim := making.try_take(ledger)) is not None:
        making.succeed(ledger, claim)
    assert set(making.phases(ledger, experiment_id).values()) == {Phase.SUCCEEDED}


def test_a_failed_experiment_keeps_what_succeeded(ledger: Ledger) -> None:
    making.register(ledger)
    experiment_id = making.submit(ledger, making.training(seeds=[0, 1]))
    good = making.take(ledger)
    making.succeed(ledger, good)
    making.fail(ledger, making.take(ledger))
    assert making.phases(ledger, experiment_id)["verdict"] is Phase.CANCELLED
    shown = making.steer(ledger, retry_experiment, experiment_id)
    by_key = {job.key: job for job in shown.jobs}
    assert by_key["model-0"].id == good.job_id
    assert set(by_key["verdict"].needs) == {good.job_id, by_key["model-1"].id}
    making.succeed(ledger, making.take(ledger))
    making.succeed(ledger, making.take(ledger))
    assert set(making.phases(ledger, experiment_id).values()) == {Phase.SUCCEEDED}


def test_a_running_job_that_is_being_cancelled_is_not_taken_for_a_source(ledger: Ledger) -> None:
    making.register(ledger)
    experiment_id = making.submit(ledger, making.distillation())
    claim = take_key(ledger, experiment_id, "teacher-big")
    making.cancel(ledger, claim.job_id)
    distilled = making.jobs_of(ledger, experiment_id)["distilled-0"]
    making.retry(ledger, distilled.id)
    shown = making.jobs_of(ledger, experiment_id)
    assert shown["teacher-big"].id != claim.job_id
    making.interrupt(ledger, claim)
    assert making.phases(ledger, experiment_id) == {
        "teacher-big": Phase.QUEUED,
        "baseline-0": Phase.QUEUED,
        "distilled-0": Phase.WAITING,
        "verdict": Phase.WAITING,
    }


def test_retry_against_cancel_leaves_nothing_hanging(ledger: Ledger) -> None:
    for number in range(5):
        making.register(ledger)
        experiment_id = making.submit(ledger, making.distillation(name=f"e{number}"), force=True)
        teacher = take_key(ledger, experiment_id, "teacher-big")
        making.fail(ledger, teacher)
        at_once(
            [
                partial(making.retry, ledger, teacher.job_id),
                partial(making.steer, ledger, cancel_experiment, experiment_id),
            ]
        )
        shown = making.jobs_of(ledger, experiment_id)
        if making.experiment(ledger, experiment_id).cancel_requested:
            assert {job.phase for job in shown.values()} <= {Phase.CANCELLED, Phase.FAILED}
        else:
            making.steer(ledger, cancel_experiment, experiment_id)


def test_the_end_of_a_replaced_job_still_reaches_the_tracking_server(ledger: Ledger) -> None:
    making.register(ledger)
    experiment_id = making.submit(ledger, making.training())
    claim = making.take(ledger)
    making.fail(ledger, claim)
    making.retry(ledger, claim.job_id)
    with ledger.unit_of_work() as session:
        (run,) = projection.pending(session, limit=10)
    assert (run.id, run.experiment_id, run.key) == (claim.job_id, experiment_id, "model-0")


def curve(ledger: Ledger, job_id: UUID) -> list[int]:
    with ledger.unit_of_work() as session:
        points = reading.metrics(session, owner=making.OWNER, job_id=job_id, key="loss")
    return [point.step for point in points]

"""Identity of work, and what it means for a second submission."""

import pytest

from kdcore.spec import Experiment, experiment_adapter, plan
from kdcore.spec.dataset import ClassEntry
from tests.worker.ledger import making
from worker.ledger import (
    IdempotencyMismatch,
    InvalidReference,
    Ledger,
    Phase,
    datasets,
    experiments,
    models,
    reading,
)
from worker.ledger.views import PlannedView


def test_digests_are_those_of_the_plan(ledger: Ledger) -> None:
    revision = making.register(ledger)
    experiment = making.distillation()
    shown = making.jobs_of(ledger, making.submit(ledger, experiment))
    planned = plan(experiment, revision.fingerprint, lambda ref: ref)
    assert {key: job.digest for key, job in shown.items()} == {
        job.key: job.digest for job in planned
    }
    assert shown["distilled-0"].needs == [shown["teacher-big"].id]
    assert [job.role for job in shown.values()] == ["teacher", "baseline", "distilled", None]


def test_finished_work_is_reused_and_named_again(ledger: Ledger) -> None:
    making.register(ledger)
    first = making.submit(ledger, making.training())
    making.succeed(ledger, making.take(ledger))
    second = making.submit(ledger, making.training(name="again"))
    before, after = making.jobs_of(ledger, first), making.jobs_of(ledger, second)
    assert after["model-0"].id == before["model-0"].id
    assert after["model-0"].reused
    assert not before["model-0"].reused
    assert after["model-0"].experiment_ids == sorted([first, second])
    with ledger.unit_of_work() as session:
        again = models.resolve(session, owner=making.OWNER, ref="models:/again-model/1")
        plain = models.resolve(session, owner=making.OWNER, ref="models:/plain-model/1")
    assert again.job_id == plain.job_id
    assert again.digest == plain.digest


def test_another_owner_does_its_own_work(ledger: Ledger) -> None:
    for owner in (making.OWNER, making.STRANGER):
        making.register(ledger, owner=owner)
    mine = making.submit(ledger, making.training())
    theirs = making.submit(ledger, making.training(), owner=making.STRANGER)
    ids = {job.id for job in making.jobs_of(ledger, mine).values()}
    assert not ids & {
        job.id for job in making.jobs_of(ledger, theirs, owner=making.STRANGER).values()
    }


def test_failed_work_is_not_reused(ledger: Ledger) -> None:
    making.register(ledger)
    first = making.submit(ledger, making.training())
    making.fail(ledger, making.take(ledger))
    second = making.submit(ledger, making.training())
    assert (
        making.jobs_of(ledger, first)["model-0"].id != making.jobs_of(ledger, second)["model-0"].id
    )
    assert set(making.phases(ledger, second).values()) == {Phase.QUEUED, Phase.WAITING}


def test_work_that_is_being_cancelled_is_not_shared(ledger: Ledger) -> None:
    """Nor what waits for it: both would be cancelled under the new experiment."""
    making.register(ledger)
    making.submit(ledger, making.training())
    claim = making.take(ledger)
    making.cancel(ledger, claim.job_id)
    second = making.submit(ledger, making.training())
    shown = making.jobs_of(ledger, second)
    assert not shown["model-0"].reused
    assert not shown["verdict"].reused
    making.interrupt(ledger, claim)
    assert making.phases(ledger, second) == {"model-0": Phase.QUEUED, "verdict": Phase.WAITING}
    making.succeed(ledger, making.take(ledger))
    making.succeed(ledger, making.take(ledger))
    assert set(making.phases(ledger, second).values()) == {Phase.SUCCEEDED}


def test_force_does_everything_anew(ledger: Ledger) -> None:
    making.register(ledger)
    first = making.submit(ledger, making.training())
    making.succeed(ledger, making.take(ledger))
    forced = making.submit(ledger, making.training(), force=True)
    old, new = making.jobs_of(ledger, first), making.jobs_of(ledger, forced)
    assert not {job.id for job in old.values()} & {job.id for job in new.values()}
    third = making.jobs_of(ledger, making.submit(ledger, making.training()))
    assert third["model-0"].id == new["model-0"].id


def test_what_waits_for_a_superseded_job_is_not_shared(ledger: Ledger) -> None:
    """It would fall with a job that the new experiment has nothing to do with."""
    making.register(ledger)
    first = making.submit(ledger, making.distillation())
    making.submit(ledger, making.training(), force=True)
    second = making.submit(ledger, making.distillation())
    old, new = making.jobs_of(ledger, first), making.jobs_of(ledger, second)
    shared = {key for key in old if old[key].id == new[key].id}
    assert shared == {"baseline-0"}
    making.cancel(ledger, old["teacher-big"].id)
    assert making.phases(ledger, second)["verdict"] is Phase.WAITING


def test_equal_jobs_of_one_plan_are_one_job(ledger: Ledger) -> None:
    making.register(ledger)
    teacher = {"name": "twin", "train": {"model": making.SMALL, "train": making.TRAIN}}
    shown = making.jobs_of(ledger, making.submit(ledger, making.distillation(teachers=[teacher])))
    assert shown["teacher-twin"].id == shown["baseline-0"].id
    forced = making.submit(ledger, making.distillation(teachers=[teacher]), force=True)
    again = making.jobs_of(ledger, forced)
    assert again["teacher-twin"].id == again["baseline-0"].id != shown["baseline-0"].id


def test_a_shared_job_is_as_urgent_as_the_most_urgent(ledger: Ledger) -> None:
    making.register(ledger)
    first = making.submit(ledger, making.training())
    making.submit(ledger, making.training(name="urgent", priority=50))
    making.submit(ledger, making.training(name="idle", priority=-50))
    assert {job.priority for job in making.jobs_of(ledger, first).values()} == {50}


def test_a_key_replays_and_refuses_another_body(ledger: Ledger) -> None:
    making.register(ledger)
    first = making.submit(ledger, making.training(), key="k")
    making.register(ledger, content="f" * 64)
    assert making.submit(ledger, making.training(), key="k") == first
    with pytest.raises(IdempotencyMismatch):
        making.submit(ledger, making.training(name="other"), key="k")
    assert making.submit(ledger, making.training(), key="l") != first


def test_a_key_belongs_to_its_owner(ledger: Ledger) -> None:
    for owner in (making.OWNER, making.STRANGER):
        making.register(ledger, owner=owner)
    first = making.submit(ledger, making.training(), key="k")
    assert making.submit(ledger, making.training(), owner=making.STRANGER, key="k") != first


def test_a_stored_model_is_a_teacher(ledger: Ledger) -> None:
    making.register(ledger)
    making.submit(ledger, making.training())
    making.succeed(ledger, making.take(ledger))
    teachers = [{"name": "big", "model": "models:/plain-model@latest"}]
    experiment_id = making.submit(ledger, making.distillation(teachers=teachers, priority=9))
    assert making.phases(ledger, experiment_id)["distilled-0"] is Phase.QUEUED
    claims = [making.take(ledger), making.take(ledger)]
    inputs = [claim.inputs for claim in claims if claim.inputs]
    assert [files["model.json"].size for (files,) in (given.values() for given in inputs)] == [10]


def test_a_network_starts_from_a_stored_model(ledger: Ledger) -> None:
    making.register(ledger)
    making.submit(ledger, making.training())
    making.succeed(ledger, making.take(ledger))
    warm = {**making.UNET, "weights": "models:/plain-model/1"}
    making.submit(ledger, making.training(name="warm", model=warm))
    making.succeed(ledger, making.take(ledger))  # the first one's comparison
    claim = making.take(ledger)
    assert claim.spec["model"]["weights"] == "inputs/models/start/model.safetensors"
    assert set(claim.inputs) == {"inputs/models/start"}


def test_stored_models_are_evaluated(ledger: Ledger) -> None:
    making.register(ledger)
    making.submit(ledger, making.training(seeds=[0, 1]))
    for _ in range(2):
        making.succeed(ledger, making.take(ledger))
    experiment_id = making.submit(
        ledger, evaluation("models:/plain-model/1", "models:/plain-model/2")
    )
    assert making.phases(ledger, experiment_id) == {"verdict": Phase.QUEUED}


@pytest.mark.parametrize(
    ("experiment", "field"),
    [
        (making.training(dataset="nothing"), "dataset"),
        (making.training(dataset="nuclei@7"), "dataset"),
        (making.distillation(teachers=[{"name": "t", "model": "models:/x/1"}]), "teachers.0.model"),
        (making.distillation(teachers=[{"name": "t", "model": "../x"}]), "teachers.0.model"),
        (
            making.distillation(student={"model": {**making.SMALL, "weights": "/etc/passwd"}}),
            "student.model.weights",
        ),
        (making.training(model={**making.UNET, "weights": "encoder.pth"}), "model.weights"),
        (making.training(model={**making.UNET, "weights": "models:/x/1"}), "model.weights"),
    ],
)
def test_what_is_not_there_is_named_by_its_field(
    ledger: Ledger, experiment: Experiment, field: str
) -> None:
    making.register(ledger)
    making.register(ledger, owner=making.STRANGER, name="nothing")
    with pytest.raises(InvalidReference) as caught:
        making.submit(ledger, experiment)
    assert caught.value.field == field
    with ledger.unit_of_work() as session:
        assert reading.list_jobs(session, owner=making.OWNER).items == []


def test_jobs_of_one_plan_are_claimed_in_its_order(ledger: Ledger) -> None:
    making.register(ledger)
    experiment_id = making.submit(ledger, making.distillation(seeds=[0, 1, 2]))
    keys = {job.id: key for key, job in making.jobs_of(ledger, experiment_id).items()}
    taken = [keys[making.take(ledger).job_id] for _ in range(4)]
    assert taken == ["teacher-big", "baseline-0", "baseline-1", "baseline-2"]


def test_a_preview_shows_what_a_submission_does(ledger: Ledger) -> None:
    making.register(ledger)
    making.submit(ledger, making.training())
    claim = making.take(ledger)
    making.succeed(ledger, claim)
    teacher = [{"name": "big", "train": {"model": making.UNET, "train": making.TRAIN}}]
    experiment = making.distillation(teachers=teacher)
    shown = {job.key: job for job in preview(ledger, experiment)}
    assert shown["teacher-big"].reused
    assert shown["teacher-big"].job_id == claim.job_id
    assert shown["teacher-big"].phase is Phase.SUCCEEDED
    assert not shown["baseline-0"].reused
    assert shown["distilled-0"].needs == ["teacher-big"]
    done = making.jobs_of(ledger, making.submit(ledger, experiment))
    assert {key: job.reused for key, job in done.items()} == {
        key: job.reused for key, job in shown.items()
    }
    assert {key: job.digest for key, job in done.items()} == {
        key: job.digest for key, job in shown.items()
    }


def evaluation(*refs: str) -> Experiment:
    spec = {"kind": "evaluation", "name": "look", "dataset": "nuclei", "models": refs}
    return experiment_adapter.validate_python(spec)


def preview(ledger: Ledger, experiment: Experiment) -> list[PlannedView]:
    with ledger.unit_of_work() as session:
        return experiments.preview(session, owner=making.OWNER, experiment=experiment)


def test_a_model_of_other_classes_is_refused_before_anything_is_trained(ledger: Ledger) -> None:
    making.register(ledger)
    making.submit(ledger, making.training())
    making.succeed(ledger, making.take(ledger))
    with ledger.unit_of_work() as session:
        others = [{"name": "ground"}, {"name": "cell"}]
        datasets.register(
            session,
            owner=making.OWNER,
            source=making.source("cells"),
            manifest=making.manifest().model_copy(
                update={"classes": tuple(ClassEntry.model_validate(one) for one in others)}
            ),
        )
    teachers = [{"name": "t", "model": "models:/plain-model/1"}]
    with pytest.raises(InvalidReference, match="knows the classes ground, nucleus") as caught:
        making.submit(ledger, making.distillation(dataset="cells", teachers=teachers))
    assert caught.value.field == "teachers.0.classes"
    mapped = [{**teachers[0], "classes": {"cell": "nucleos"}}]
    with pytest.raises(InvalidReference, match="did you mean nucleus") as caught:
        making.submit(ledger, making.distillation(dataset="cells", teachers=mapped))
    assert caught.value.field == "teachers.0.classes.cell"
    mapped = [{**teachers[0], "classes": {"cell": "nucleus"}}]
    making.submit(ledger, making.distillation(dataset="cells", teachers=mapped))
    making.submit(ledger, making.distillation(teachers=teachers))

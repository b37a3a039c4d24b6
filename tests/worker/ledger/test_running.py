"""Events, metrics, checkpoints and artefacts of a running job."""

import pytest

from kdcore.spec import Outcome, event_adapter
from tests.worker.ledger import making
from worker.ledger import FileRef, Ledger, Phase, jobs, reading


def test_events_are_numbered_without_a_gap(ledger: Ledger) -> None:
    claim = start(ledger)
    making.relay(
        ledger, claim, [making.progress(1), making.metric(1, loss=2.0), making.progress(2)]
    )
    making.relay(ledger, claim, [])
    making.publish(ledger, claim, 5)
    making.interrupt(ledger, claim)
    again = making.take(ledger)
    making.relay(ledger, again, [making.metric(6, loss=1.0), making.progress(6)])
    making.succeed(ledger, again)
    seen = making.events(ledger, claim.job_id)
    assert [event.number for event in seen] == list(range(1, len(seen) + 1))
    assert [(event.type, event.attempt) for event in seen] == [
        ("job.submitted", None),
        ("job.claimed", 1),
        ("metric", 1),
        ("progress", 1),
        ("job.checkpoint_published", 1),
        ("job.retried", 1),
        ("job.claimed", 2),
        ("metric", 2),
        ("progress", 2),
        ("job.succeeded", 2),
    ]
    assert seen[3].data["step"] == 2
    assert seen[3].at == making.NOW


def test_events_go_on_after_a_number(ledger: Ledger) -> None:
    claim = start(ledger)
    making.relay(ledger, claim, [making.metric(step, loss=1.0) for step in range(5)])
    with ledger.unit_of_work() as session:
        page = reading.events_after(
            session, owner=making.OWNER, job_id=claim.job_id, after=3, limit=2
        )
    assert [event.number for event in page] == [4, 5]


def test_a_metric_is_kept_once_across_attempts(ledger: Ledger) -> None:
    claim = start(ledger)
    making.relay(ledger, claim, [making.metric(step, loss=float(step)) for step in (1, 2, 3)])
    making.interrupt(ledger, claim)
    again = making.take(ledger)
    making.relay(ledger, again, [making.metric(step, loss=-1.0) for step in (3, 4)])
    with ledger.unit_of_work() as session:
        points = reading.metrics(session, owner=making.OWNER, job_id=claim.job_id, key="loss")
        none = reading.metrics(session, owner=making.OWNER, job_id=claim.job_id, key="other")
    assert [(point.step, point.value) for point in points] == [(1, 1), (2, 2), (3, 3), (4, -1)]
    assert none == []


def test_a_batch_sent_twice_is_taken_once(ledger: Ledger) -> None:
    claim = start(ledger)
    batch = [making.metric(1, loss=2.0), making.progress(1)]
    for _ in range(2):
        making.relay(ledger, claim, batch, upto=300)
    making.relay(ledger, claim, [making.progress(2)], upto=400)
    types = making.event_types(ledger, claim.job_id)
    assert types == ["job.submitted", "job.claimed", "metric", "progress", "progress"]


def test_progress_is_shown(ledger: Ledger) -> None:
    claim = start(ledger)
    assert making.job(ledger, claim.job_id).progress_percentage is None
    making.relay(ledger, claim, [making.progress(5)])
    job = making.job(ledger, claim.job_id)
    assert job.progress_percentage == 25.0
    assert job.estimated_remaining_seconds == 1.5
    assert job.progress is not None
    assert job.progress["stage"] == "training"
    making.succeed(ledger, claim)
    job = making.job(ledger, claim.job_id)
    assert job.progress_percentage == 100.0
    assert job.estimated_remaining_seconds is None


def test_the_next_attempt_starts_from_the_newest_checkpoint(ledger: Ledger) -> None:
    first = start(ledger)
    assert first.checkpoint is None
    for step in (5, 10, 10, 15):
        making.publish(ledger, first, step, size=step)
    making.interrupt(ledger, first)
    second = making.take(ledger)
    assert second.checkpoint == checkpoint(15, size=15)
    assert second.older_checkpoint == checkpoint(10, size=10)
    making.publish(ledger, second, 15, size=99)
    making.interrupt(ledger, second)
    third = making.take(ledger)
    assert third.checkpoint == checkpoint(15, size=99)
    types = making.event_types(ledger, first.job_id)
    assert types.count("job.checkpoint_published") == 3
    assert making.job(ledger, first.job_id).checkpoint_step == 15


def test_artifacts_are_those_of_the_attempt_that_counts(ledger: Ledger) -> None:
    first = start(ledger)
    making.publish(ledger, first, 5)
    log = {"log.txt": FileRef(making.SHA, 1)}
    making.end(ledger, first, Outcome(status="interrupted"), files=log)
    second = making.take(ledger)
    assert paths(ledger, second) == [
        "checkpoints/step-00000005/manifest.json",
        "checkpoints/step-00000005/state.pt",
    ]
    making.publish(ledger, second, 10)
    making.succeed(ledger, second)
    assert paths(ledger, second) == [
        "checkpoints/step-00000010/manifest.json",
        "checkpoints/step-00000010/state.pt",
        "model/model.json",
        "model/model.safetensors",
    ]


def test_a_file_published_again_is_as_it_was_last_published(ledger: Ledger) -> None:
    claim = start(ledger)
    for size in (1, 2):
        with ledger.unit_of_work() as session:
            jobs.publish(
                session,
                job_id=claim.job_id,
                attempt=claim.attempt,
                files={"images/a.png": FileRef(making.SHA, size)},
                step=None,
            )
    with ledger.unit_of_work() as session:
        (shown,) = reading.artifacts(session, owner=making.OWNER, job_id=claim.job_id)
    assert (shown.path, shown.size, shown.step) == ("images/a.png", 2, None)


def test_claims_follow_priority_then_age(ledger: Ledger) -> None:
    making.register(ledger)
    for name, priority in (("a", 0), ("b", 5), ("c", 0)):
        making.submit(ledger, making.training(name=name, priority=priority, seeds=[ord(name)]))
    with ledger.unit_of_work() as session:
        page = reading.list_jobs(session, owner=making.OWNER, phase=Phase.QUEUED)
        depth = jobs.queue_depth(session)
    ahead = {job.priority * 1000 + job.spec["seed"]: job.jobs_ahead for job in page.items}
    assert ahead == {5000 + ord("b"): 0, ord("a"): 1, ord("c"): 2}
    assert depth == {"cpu": 3}
    seeds = [making.take(ledger).spec["seed"] for _ in range(3)]
    assert seeds == [ord("b"), ord("a"), ord("c")]


def test_a_claim_is_for_the_queues_it_names(ledger: Ledger) -> None:
    making.register(ledger)
    making.submit(ledger, making.training(), queue="gpu")
    assert making.try_take(ledger) is None
    with ledger.unit_of_work() as session:
        found = jobs.claim(session, worker="w", queues=["cpu", "gpu"], lease_seconds=1.0)
    assert found is not None


def test_an_idle_worker_hears_of_a_new_job(ledger: Ledger) -> None:
    making.register(ledger)
    with ledger.listen() as listener:
        making.submit(ledger, making.training())
        assert listener.wait(10.0) == {"cpu"}
        assert listener.wait(0.0) == set()
        making.interrupt(ledger, making.take(ledger))
        assert listener.wait(10.0) == {"cpu"}


@pytest.mark.parametrize("text", ["a\0b", "\0"])
def test_nul_in_an_event_does_not_stop_the_relay(ledger: Ledger, text: str) -> None:
    claim = start(ledger)
    warning = {"type": "warning", "at": making.NOW, "code": text, "message": text}
    making.relay(ledger, claim, [event_adapter.validate_python(warning)])
    assert making.event_types(ledger, claim.job_id)[-1] == "warning"


def start(ledger: Ledger) -> jobs.Claim:
    making.register(ledger)
    making.submit(ledger, making.training())
    return making.take(ledger)


def checkpoint(step: int, *, size: int) -> jobs.Checkpoint:
    folder = f"checkpoints/step-{step:08d}"
    names = ("state.pt", "manifest.json")
    return jobs.Checkpoint(step, {f"{folder}/{name}": FileRef(making.SHA, size) for name in names})


def paths(ledger: Ledger, claim: jobs.Claim) -> list[str]:
    with ledger.unit_of_work() as session:
        shown = reading.artifacts(session, owner=making.OWNER, job_id=claim.job_id)
    return [artifact.path for artifact in shown]

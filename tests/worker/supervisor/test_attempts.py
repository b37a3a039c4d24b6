"""Attempts with real child processes: how they end, and what the ledger then holds."""

from uuid import UUID

import pytest

from kdcore.spec import FailureKind
from tests.worker.ledger import making
from tests.worker.supervisor.bench import Bench, is_running, until
from worker.ledger import Phase, reading

ALL = {"steps": 6, "every": 2}


def test_success_is_published_and_only_the_log_is_left(bench: Bench) -> None:
    job_id = bench.submit()
    with bench.running(ALL):
        bench.wait_for(job_id, Phase.SUCCEEDED)
    assert len(bench.artifact(job_id, "model/model.safetensors")) == 64
    assert b"attempt 1 starts after step 0" in bench.artifact(job_id, "log.txt")
    assert making.job(bench.ledger, job_id).checkpoint_step == 6
    assert [path.name for path in bench.run_directory(job_id, 1).iterdir()] == ["log.txt"]
    steps = bench.rows("SELECT step FROM metrics WHERE job_id = :id ORDER BY step", id=job_id)
    assert [step for (step,) in steps] == [1, 2, 3, 4, 5, 6]


def test_a_distillation_goes_all_the_way_to_its_verdict(bench: Bench) -> None:
    bench.register()
    experiment_id = making.submit(bench.ledger, making.distillation())
    with bench.running({"steps": 3}, cpu_slots=2):
        until(lambda: set(making.phases(bench.ledger, experiment_id).values()) == {"succeeded"})
    with bench.ledger.unit_of_work() as session:
        compared = reading.comparison(session, owner=making.OWNER, experiment_id=experiment_id)
    assert compared.verdict is not None
    assert len(compared.verdict["weights"]) == 3
    assert "report/verdict.json" in {file.path for file in compared.artifacts}


@pytest.mark.parametrize(
    ("script", "kind", "exit_status"),
    [
        ({"at": {"*": {"3": "segfault"}}}, FailureKind.TRAINER_CRASHED, -11),
        ({"at": {"*": {"3": "exit 3"}}}, FailureKind.CODE_ERROR, 3),
        ({"at": {"*": {"3": "garbage"}}}, FailureKind.TRAINER_GARBLED, -9),
        ({"outcome": False}, FailureKind.TRAINER_GARBLED, 0),
        ({"outcome": '{"status": "splendid"}'}, FailureKind.TRAINER_GARBLED, 0),
        ({"outcome": '{"status": "succeeded", "files": ["../spec.json"]}'},
         FailureKind.TRAINER_GARBLED, 0),
        ({"outcome": '{"status": "failed", "failure": {"kind": "non_finite_loss", '
                     '"message": "NaN at step 3"}}'}, FailureKind.NON_FINITE_LOSS, 0),
    ],
)  # fmt: skip
def test_bad_ends(
    bench: Bench, script: dict[str, object], kind: FailureKind, exit_status: int
) -> None:
    job_id = bench.submit()
    with bench.running({"steps": 4, **script}):
        until(lambda: bool(ended(bench, job_id)))
    assert ended(bench, job_id)[0] == (kind, exit_status)


def test_code_error_shows_the_last_lines(bench: Bench) -> None:
    job_id = bench.submit()
    with bench.running({"steps": 4, "at": {"*": {"2": "exit 3"}}}):
        bench.wait_for(job_id, Phase.FAILED)
    assert "Traceback: it broke" in (making.job(bench.ledger, job_id).message or "")


def test_a_hanging_trainer_is_killed(bench: Bench) -> None:
    job_id = bench.submit()
    script = {"steps": 4, "at": {"1": {"3": "hang"}}}
    with bench.running(script, step_deadline_seconds=3.0):
        bench.wait_for(job_id, Phase.SUCCEEDED)
    assert ended(bench, job_id)[0] == (FailureKind.TRAINER_HUNG, -9)


def test_cancel_of_a_trainer_that_ignores_sigterm(bench: Bench) -> None:
    job_id = bench.submit()
    script = {"steps": 4, "on_term": "ignore", "at": {"*": {"1": "spawn", "2": "hang"}}}
    with bench.running(script, grace_seconds=0.3):
        bench.wait_for_step(job_id, 1)
        pids = spawned(bench, job_id)
        making.cancel(bench.ledger, job_id)
        bench.wait_for(job_id, Phase.CANCELLED)
        until(lambda: not any(map(is_running, pids)))
    assert ended(bench, job_id) == [("cancelled", -9)]


def test_cancel_lets_a_polite_trainer_leave(bench: Bench) -> None:
    job_id = bench.submit()
    with bench.running({"steps": 10_000, "pause": 0.01}):
        bench.wait_for_step(job_id, 1)
        making.cancel(bench.ledger, job_id)
        bench.wait_for(job_id, Phase.CANCELLED)
    assert ended(bench, job_id) == [("cancelled", 75)]


def test_children_that_left_the_session_die_with_the_trainer(bench: Bench) -> None:
    job_id = bench.submit()
    with bench.running({"steps": 3, "at": {"1": {"2": "spawn", "3": "segfault"}}}):
        bench.wait_for(job_id, Phase.SUCCEEDED)
    assert not any(map(is_running, spawned(bench, job_id)))


def test_kills_leave_the_weights_and_events_of_an_undisturbed_run(bench: Bench) -> None:
    steady, shaken = bench.submit(seed=0), bench.submit(seed=1)
    kills = {"1": {"5": "kill"}, "2": {"9": "kill"}, "3": {"12": "kill"}, "4": {"18": "kill"}}
    with bench.running({"steps": 20, "every": 4}):
        bench.wait_for(steady, Phase.SUCCEEDED)
        bench.wait_for(shaken, Phase.SUCCEEDED)
    again = resubmit(bench, seed=1)
    with bench.running({"steps": 20, "every": 4, "at": kills}):
        bench.wait_for(again, Phase.SUCCEEDED)
    weights = [bench.artifact(job, "model/model.safetensors") for job in (shaken, again)]
    assert weights[0] == weights[1]
    assert bench.artifact(steady, "model/model.safetensors") != weights[0]
    assert_events_once_in_order(bench, again)
    steps = bench.rows("SELECT step FROM metrics WHERE job_id = :id ORDER BY step", id=again)
    assert [step for (step,) in steps] == list(range(1, 21))
    firsts = bench.rows(
        "SELECT attempt, min((data->>'step')::int) FROM events "
        "WHERE job_id = :id AND type = 'metric' GROUP BY attempt ORDER BY attempt",
        id=again,
    )
    # Each attempt goes on from the last checkpoint before the kill.
    assert firsts == [(1, 1), (2, 5), (3, 9), (4, 9), (5, 17)]


def assert_events_once_in_order(bench: Bench, job_id: UUID) -> None:
    numbers = bench.rows("SELECT number FROM events WHERE job_id = :id ORDER BY number", id=job_id)
    assert [number for (number,) in numbers] == list(range(1, len(numbers) + 1))
    said = bench.rows(
        "SELECT attempt, (data->>'step')::int FROM events "
        "WHERE job_id = :id AND type = 'metric' ORDER BY number",
        id=job_id,
    )
    assert said == sorted(set(said))


def ended(bench: Bench, job_id: UUID) -> list[tuple[object, ...]]:
    return bench.rows(
        "SELECT ended_as, exit_status FROM attempts "
        "WHERE job_id = :id AND ended_as IS NOT NULL ORDER BY number",
        id=job_id,
    )


def spawned(bench: Bench, job_id: UUID) -> list[int]:
    [pids] = [path.read_text() for path in bench.folder.glob(f"work/runs/{job_id}/a1/pids")]
    return [int(pid) for pid in pids.split()]


def resubmit(bench: Bench, *, seed: int) -> UUID:
    experiment = making.training(seeds=[seed], name=f"again-{seed}")
    experiment_id = making.submit(bench.ledger, experiment, force=True)
    return making.jobs_of(bench.ledger, experiment_id)[f"model-{seed}"].id

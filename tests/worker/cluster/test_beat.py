"""Beat: none, one, three, killed ones: each moment is run once, and jobs start."""

import pytest

from tests.worker.cluster.bench import ClusterBench
from tests.worker.cluster.test_worker import only
from tests.worker.supervisor.bench import until
from worker.ledger import Phase

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def test_beat_tells_of_what_no_note_told(bench: ClusterBench) -> None:
    worker = bench.worker({"steps": 2})
    bench.wait_until_consuming(worker)
    job_id = bench.submit_silently()
    bench.beat()
    bench.wait_for(job_id, Phase.SUCCEEDED)


def test_beat_tells_of_a_job_whose_delay_is_over(bench: ClusterBench) -> None:
    """A trainer that was killed is tried again half a second later; nobody polls here."""
    bench.beat()
    worker = bench.worker({"steps": 2, "at": {"1": {"1": "kill"}}})
    bench.wait_until_consuming(worker)
    job_id = bench.submit()
    bench.wait_for(job_id, Phase.SUCCEEDED)
    assert bench.attempts(job_id) == [(1, "trainer_killed"), (2, "succeeded")]


def test_three_beats_and_two_workers_run_each_moment_once(bench: ClusterBench) -> None:
    beats = [bench.beat() for _ in range(3)]
    workers = [bench.worker({"steps": 2}) for _ in range(2)]
    for worker in workers:
        bench.wait_until_consuming(worker)
    until(lambda: moments(bench) >= 3, seconds=90)
    beats[0].kill()
    beats[1].kill()
    seen = moments(bench)
    until(lambda: moments(bench) >= seen + 2, seconds=90)
    beats[2].kill()
    seen = moments(bench)
    until(lambda: moments(bench) >= seen + 2, seconds=90)
    wrong = bench.rows(
        "SELECT * FROM ticks WHERE error IS NOT NULL OR mod(extract(epoch FROM fire_at), 5) <> 0"
    )
    assert not wrong
    job_id = bench.submit()
    bench.wait_for(job_id, Phase.SUCCEEDED)
    assert bench.attempts(job_id) == [(1, "succeeded")]


def test_beat_waits_for_the_broker_and_answers_inspect(bench: ClusterBench) -> None:
    bench.redis.kill()
    beat = bench.beat()
    bench.wait_for_log(beat, "dispatch.waits")
    bench.redis.start()
    job_id = bench.submit()
    until(lambda: bench.redis.waiting("cpu") == 1, seconds=60)
    with bench.application() as application:
        until(lambda: bool(application.control.inspect(timeout=1).ping()), seconds=60)
        assert only(application.control.inspect(timeout=5).ping()) == {"ok": "pong"}
    assert bench.phase(job_id) is Phase.QUEUED
    beat.terminate()
    assert beat.wait(30) == 0, bench.log(beat)[-3000:]


def test_beat_needs_the_ledger_s_address(bench: ClusterBench) -> None:
    beat = bench.start(["-m", "worker.cluster", "beat"], {"KD_BROKER_URL": bench.broker_url})
    assert beat.wait(60) != 0
    assert "database_url" in bench.log(beat)


def moments(bench: ClusterBench) -> int:
    [(count,)] = bench.rows(
        "SELECT count(*) FROM ticks WHERE schedule = 'rescue' AND ended_at IS NOT NULL"
    )
    return int(count)

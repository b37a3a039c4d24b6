"""A real worker process as it is seen from outside: logs, metrics, traces."""

import json
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.collector import attributes, collecting
from tests.worker.ledger import making
from tests.worker.supervisor.bench import Bench, until
from worker.ledger import Phase
from worker.ledger.origin import keep_trace
from worker.observing import metrics

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
TRACE = f"00-{TRACE_ID}-b7ad6b7169203331-01"


def test_every_line_of_an_attempt_has_its_ids(bench: Bench) -> None:
    job_id = bench.submit()
    process = bench.spawn({"steps": 30, "pause": 0.05, "every": 10}, log_format="json")
    bench.wait_for(job_id, Phase.SUCCEEDED)
    leave(process)
    said = lines(bench)
    of_job = [line for line in said if line.get("job") == str(job_id)]
    assert {line["attempt"] for line in of_job} == {1}
    expected = ["job.claimed", "trainer.started", "trainer.ended", "attempt.finished"]
    assert [line["event"] for line in of_job if line["event"] in expected] == expected
    [started] = [line for line in said if line["event"] == "worker.started"]
    assert "job" not in started


def test_metrics(bench: Bench) -> None:
    job_id = bench.submit()
    process = bench.spawn(
        {"steps": 3, "at": {"1": {"2": "segfault"}}},
        cpu_slots=2,
        log_format="json",
        metrics_port=0,
    )
    until(lambda: any(line["event"] == "metrics.served" for line in lines(bench)))
    bench.wait_for(job_id, Phase.SUCCEEDED)
    [served] = [line for line in lines(bench) if line["event"] == "metrics.served"]
    url = f"http://127.0.0.1:{served['port']}/metrics"
    until(lambda: scrape(url).get(("stillhouse_attempt_seconds_count", "succeeded"), 0) >= 1)
    found = scrape(url)
    leave(process)
    assert found["stillhouse_worker_slots", None] == 2
    assert ("stillhouse_worker_slots_busy", None) in found
    assert found["stillhouse_attempt_seconds_count", "trainer_crashed"] == 1
    assert found["stillhouse_claim_seconds_count", "cpu"] >= 2
    assert found["stillhouse_log_events_total", "job.claimed"] >= 2
    assert found["process_resident_memory_bytes", None] > 0
    # Nobody asked for the other processes' metrics.
    assert not any(name.startswith("stillhouse_http") for name, _ in found)


def test_a_port_that_is_taken_does_not_keep_the_worker(bench: Bench) -> None:
    job_id = bench.submit()
    port = metrics.serve("127.0.0.1", 0)
    assert port is not None
    process = bench.spawn({"steps": 2}, log_format="json", metrics_port=port)
    bench.wait_for(job_id, Phase.SUCCEEDED)
    leave(process)
    [line] = [line for line in lines(bench) if line["event"] == "metrics.unavailable"]
    assert (line["level"], line["port"]) == ("error", port)


def test_attempts_belong_to_the_trace_of_their_submission(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.register()
    experiment_id = making.submit(bench.ledger, making.training())
    with bench.ledger.unit_of_work() as session:
        keep_trace(session, experiment_id=experiment_id, traceparent=TRACE)
    job_id = making.jobs_of(bench.ledger, experiment_id)["model-0"].id
    with collecting() as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        process = bench.spawn({"steps": 2}, log_format="json", worker_name="w1")
        bench.wait_for(job_id, Phase.SUCCEEDED)
        leave(process)
        received = {
            span.name: span
            for span in collector.received
            if attributes(span).get("stillhouse.job") in (None, str(job_id))
        }
    assert {"job.waits", "attempt", "layout", "trainer", "finish"} <= received.keys()
    assert {span.trace_id.hex() for span in received.values()} == {TRACE_ID}
    waits, attempt = received["job.waits"], received["attempt"]
    assert waits.parent_span_id.hex() == attempt.parent_span_id.hex() == "b7ad6b7169203331"
    assert waits.start_time_unix_nano < waits.end_time_unix_nano <= attempt.start_time_unix_nano
    assert attributes(attempt) == {
        "stillhouse.job": str(job_id),
        "stillhouse.attempt": 1,
        "stillhouse.kind": "fit",
        "stillhouse.queue": "cpu",
        "stillhouse.worker": "w1",
    }
    assert received["trainer"].parent_span_id == attempt.span_id
    [line] = [line for line in of(bench, job_id) if line["event"] == "trainer.started"]
    assert line["trace"] == TRACE_ID


def test_a_collector_that_is_away_changes_nothing(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    job_id = bench.submit()
    process = bench.spawn({"steps": 2})
    bench.wait_for(job_id, Phase.SUCCEEDED)
    leave(process)


def test_a_worker_without_traces_imports_nothing_of_them() -> None:
    assert imported("worker.__main__", "opentelemetry") == []


def test_the_api_without_traces_imports_no_exporter() -> None:
    """FastAPI itself imports the interface, which does nothing."""
    assert imported("api.app", "opentelemetry.sdk", "opentelemetry.exporter") == []


def imported(module: str, *packages: str) -> list[str]:
    """What importing ``module`` imports of ``packages``."""
    listing = (
        f"import {module}, sys\n"
        f"print(*(name for name in sys.modules if name.startswith({packages!r})))"
    )
    said = subprocess.run(
        [sys.executable, "-c", listing], capture_output=True, text=True, check=True
    )
    return said.stdout.split()


def leave(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    assert process.wait() == 0


def lines(bench: Bench) -> list[dict[str, Any]]:
    """Whole lines of all workers so far."""
    written = "".join(path.read_text() for path in sorted(Path(bench.folder).glob("worker-*.log")))
    return [json.loads(line) for line in written.splitlines(keepends=True) if line.endswith("\n")]


def of(bench: Bench, job_id: UUID) -> list[dict[str, Any]]:
    return [line for line in lines(bench) if line.get("job") == str(job_id)]


def scrape(url: str) -> dict[tuple[str, str | None], float]:
    """Samples by their name and their first label but for the buckets' bound."""
    with urllib.request.urlopen(url, timeout=5) as answer:
        text = answer.read().decode()
    return {
        (sample.name, next(iter(sample.labels.values()), None)): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }

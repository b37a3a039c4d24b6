"""One real distillation under ten SIGKILLs of trainers and three of the worker.

The kills come 0.1 to 0.8 s after training is seen, so that on a busy machine many attempts in a row
bring no newer checkpoint. `SEED=12 make test ARGS=tests/e2e/test_kills.py` deals them at other moments.
"""

import os
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from uuid import UUID

import psutil
import pytest
import yaml

from kdcore.data.scan import scan
from kdcore.spec import experiment_adapter
from kdcore.spec.dataset import DatasetSource
from tests.shapes import STUDENT, make_shapes
from tests.worker.ledger import making
from tests.worker.supervisor.bench import ROOT
from worker.artifacts import FolderStore
from worker.ledger import FileRef, Ledger, Phase, datasets

TRAINER_KILLS, WORKER_KILLS = 10, 3
PATIENCE_SECONDS = 900.0
TRAIN = {
    "size": [32, 32], "batch": 2, "steps": 240, "ema": 0.9,
    "evaluate_every": 120, "checkpoint_every": 10,
}  # fmt: skip
RECIPE: dict[str, Any] = {
    "kind": "distillation",
    "name": "shapes",
    "dataset": "shapes",
    "teachers": [{"name": "big", "train": {"model": STUDENT, "train": TRAIN}}],
    "student": {"model": {"arch": "fpn", "encoder": "tu-mobilenetv3_small_050"}},
    "objective": [{"kind": "ce"}, {"kind": "kd"}, {"kind": "pkd", "weight": 0.1}],
    "train": TRAIN,
    "unlabelled": {"share": 0.5},
    "latency": {"warmup": 1, "runs": 2},
}


class Cluster:
    """A ledger, a store and one worker process at a time; trainers are real."""

    def __init__(self, ledger: Ledger, database_url: str, folder: Path) -> None:
        self.ledger, self.folder = ledger, folder
        self.store = FolderStore(folder / "artifacts")
        self.environment = {
            **os.environ,
            "KD_DATABASE_URL": database_url,
            "KD_WORK_DIR": str(folder / "work"),
            "KD_ARTIFACTS_DIR": str(folder / "artifacts"),
            # As many slots as cores: one thread a trainer, as in the undisturbed run.
            "KD_CPU_SLOTS": str(os.cpu_count()),
            "KD_LEASE_SECONDS": "3",
            "KD_HEARTBEAT_SECONDS": "0.5",
            "KD_SELF_FENCE_SECONDS": "2",
            "KD_POLL_SECONDS": "0.2",
            "KD_RELAY_SECONDS": "0.2",
            "KD_RESERVE_BYTES": "0",
            "OMP_WAIT_POLICY": "PASSIVE",
        }
        self.worker = self._start()

    def submit(self, source: DatasetSource) -> UUID:
        manifest = scan(source)
        for entry in manifest.files():
            self.store.put(Path(source.root) / entry.path)
        with self.ledger.unit_of_work() as session:
            datasets.register(session, owner=making.OWNER, source=source, manifest=manifest)
        return making.submit(self.ledger, experiment_adapter.validate_python(RECIPE))

    def trainers(self) -> list[psutil.Process]:
        """Trainers that have begun to train, so that their death costs something."""
        found = []
        for process in psutil.Process(self.worker.pid).children(recursive=True):
            try:
                command = process.cmdline()
            except psutil.NoSuchProcess:
                continue
            if command[1:4] == ["-m", "kdcore", "run"] and self._trains(Path(command[-1])):
                found.append(process)
        return found

    def kill_worker(self) -> None:
        self.worker.kill()
        self.worker.wait()
        self.worker = self._start()

    def stop(self) -> None:
        self.worker.terminate()
        assert self.worker.wait(timeout=60) == 0

    def orphans(self) -> list[list[str]]:
        """Processes that still work below our folder."""
        commands = [process.info["cmdline"] or [] for process in psutil.process_iter(["cmdline"])]
        return [command for command in commands if str(self.folder / "work") in " ".join(command)]

    def rows(self, statement: str) -> list[tuple[Any, ...]]:
        with self.ledger.unit_of_work() as session:
            return [tuple(row) for row in session.execute(making.text(statement))]

    def weights(self, job_id: UUID) -> bytes:
        [(digest, size)] = self.rows(
            "SELECT sha256, size FROM artifacts "
            f"WHERE job_id = '{job_id}' AND path = 'model/model.safetensors'"
        )
        with self.store.open(FileRef(digest, size)) as file:
            return file.read()

    def _start(self) -> subprocess.Popen[bytes]:
        with (self.folder / "worker.log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "worker"],
                cwd=ROOT, env=self.environment, stdout=log, stderr=log,
            )  # fmt: skip

    @staticmethod
    def _trains(run: Path) -> bool:
        events = run / "events.jsonl"
        return events.exists() and b'"training"' in events.read_bytes()


@pytest.mark.slow
@pytest.mark.timeout(1300)
def test_thirteen_kills_change_nothing(ledger: Ledger, database_url: str, tmp_path: Path) -> None:
    source = make_shapes(tmp_path / "shapes")
    cluster = Cluster(ledger, database_url, tmp_path)
    experiment = cluster.submit(source)
    rng = random.Random(int(os.environ.get("SEED", "11")))
    kills = ["trainer"] * TRAINER_KILLS + ["worker"] * WORKER_KILLS
    rng.shuffle(kills)
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not all(phase in ENDED for phase in making.phases(ledger, experiment).values()):
        assert time.monotonic() < deadline, (tmp_path / "worker.log").read_text()[-4000:]
        time.sleep(0.05)
        trainers = cluster.trainers()
        if not kills or not trainers:
            continue
        time.sleep(rng.uniform(0.1, 0.8))
        if kills.pop() == "worker":
            cluster.kill_worker()
        else:
            rng.choice(trainers).kill()
    cluster.stop()

    assert not kills, "the jobs were over before all kills were dealt"
    assert cluster.orphans() == []
    phases = set(making.phases(ledger, experiment).values())
    assert phases == {Phase.SUCCEEDED}, cluster.rows("SELECT * FROM attempts ORDER BY started_at")
    assert_once_and_in_order(cluster)
    undisturbed = run_undisturbed(source, tmp_path)
    jobs = making.jobs_of(ledger, experiment)
    for key in ("teacher-big", "baseline-0", "distilled-0"):
        expected = (undisturbed / "jobs" / key / "model/model.safetensors").read_bytes()
        assert cluster.weights(jobs[key].id) == expected, key


ENDED = {Phase.SUCCEEDED, Phase.FAILED, Phase.CANCELLED}


def assert_once_and_in_order(cluster: Cluster) -> None:
    successes = cluster.rows(
        "SELECT job_id, count(*) FROM events WHERE type = 'job.succeeded' GROUP BY job_id"
    )
    assert [count for _, count in successes] == [1, 1, 1, 1]
    gaps = cluster.rows(
        "SELECT j.id FROM jobs j JOIN events e ON e.job_id = j.id GROUP BY j.id "
        "HAVING count(*) <> max(e.number) OR min(e.number) <> 1 OR max(e.number) <> j.event_number"
    )
    assert gaps == []
    backwards = cluster.rows(
        "SELECT * FROM (SELECT attempt, lag(attempt) OVER (PARTITION BY job_id ORDER BY number) "
        "AS before FROM events WHERE attempt IS NOT NULL) AS pairs WHERE attempt < before"
    )
    assert backwards == []
    killed = cluster.rows(
        "SELECT count(*) FROM attempts WHERE ended_as IN ('trainer_killed', 'worker_lost')"
    )
    assert killed[0][0] >= TRAINER_KILLS


def run_undisturbed(source: DatasetSource, folder: Path) -> Path:
    """The same experiment without any service."""
    recipe = {**RECIPE, "dataset": source.to_json()}
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    out = folder / "undisturbed"
    subprocess.run(
        [sys.executable, "-m", "kdcore", "run", str(folder / "recipe.yaml"), "--out", str(out)],
        cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=True, capture_output=True,
    )  # fmt: skip
    return out

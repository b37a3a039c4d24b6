"""``python -m tests.chaos.distilling --seeds 10 --kills 100``: real distillations under blows (I8).

A teacher, and for each seed a baseline and a distilled student, on small real images. Each must end with the
weights, bit for bit, of the same training by ``kd run`` that nobody disturbed.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import yaml

from embedded.postgres import Postgres
from kdcore.data.scan import scan
from kdcore.spec.dataset import DatasetSource
from tests.chaos.client import Client, Request
from tests.chaos.cluster import Cluster, Plan
from tests.chaos.figures import Dealt, summary
from tests.chaos.judging import judge
from tests.chaos.soak import Report
from tests.chaos.victims import VICTIMS, choose
from tests.e2e.test_kills import RECIPE
from tests.shapes import make_shapes
from tests.worker.supervisor.bench import ROOT

TRAINER: Final = (sys.executable, "-m", "kdcore", "run")
STALLED_SECONDS: Final = 600.0
DEADLY: Final = {
    "trainer killed": 6,
    "leash killed": 1,
    "worker killed": 2,
    "worker deployed": 1,
    "worker stopped": 1,
    "postgres killed": 1,
    "writes late": 1,
}
"""Blows that interrupt a training, or may, and how often each is dealt."""


def distil(folder: Path, *, seed: int, seeds: int, kills: int) -> Report:
    """Blows until ``kills`` attempts ended without success, or all trainings are done."""
    rng = random.Random(seed)
    recipe = {**RECIPE, "seeds": list(range(seeds))}
    source = make_shapes(folder / "shapes")
    postgres = Postgres(folder / "postgres")
    postgres.start()
    try:
        plan = Plan(workers=2, slots=1, trainer=TRAINER)
        with Cluster(folder, postgres, plan) as cluster:
            manifest = scan(source)
            for entry in manifest.files():
                cluster.store.put(Path(source.root) / entry.path)
            cluster.register(source, manifest)
            client = Client(cluster.front.port)
            client.submit([Request("distillation", recipe)], rate=1.0)
            dealt = _strike(cluster, rng, kills)
            cluster.settle(STALLED_SECONDS)
            twins = _twins(cluster, _undisturbed(recipe, source, folder))

            def twin_of(job: UUID, spec: Mapping[str, Any]) -> str | None:
                return twins.get(job)

            violations = judge(cluster, client, end_of=lambda *_: "succeeded", twin_of=twin_of)
            figures = {"bit-equal to be": len(twins), **summary(cluster, client, dealt)}
            return Report(violations, figures)
    finally:
        postgres.stop()


def _strike(cluster: Cluster, rng: random.Random, kills: int) -> list[Dealt]:
    dealt = []
    victims = {name: replace(VICTIMS[name], weight=weight) for name, weight in DEADLY.items()}
    while cluster.open_jobs() and _interrupted(cluster) < kills:
        time.sleep(rng.uniform(0.1, 1.0))
        if not any(_trains(cluster)):
            continue
        name, victim = choose(cluster, rng, victims)
        at = time.time()
        dealt.append(Dealt(at, name, victim.strike(cluster, rng)))
    return dealt


def _trains(cluster: Cluster) -> list[bool]:
    """Whether each trainer has begun to train, so that its death costs something."""
    runs = [
        cluster.folder / worker.process.name / "runs" / job / f"a{attempt}" / "events.jsonl"
        for worker in cluster.workers
        for job, attempt in worker.held()
    ]
    return [run.exists() and b'"training"' in run.read_bytes() for run in runs]


def _interrupted(cluster: Cluster) -> int:
    [(count,)] = cluster.rows("SELECT count(*) FROM attempts WHERE ended_as <> 'succeeded'")
    return int(count)


def _undisturbed(recipe: Mapping[str, Any], source: DatasetSource, folder: Path) -> Path:
    """The same experiment without any service."""
    path, out = folder / "recipe.yaml", folder / "undisturbed"
    path.write_text(yaml.safe_dump({**recipe, "dataset": source.to_json()}))
    subprocess.run(
        [sys.executable, "-m", "kdcore", "run", str(path), "--out", str(out)],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=True,
        capture_output=True,
    )
    return out


def _twins(cluster: Cluster, undisturbed: Path) -> dict[UUID, str]:
    """Digest of the weights that each job's twin made."""
    keys = cluster.rows(
        "SELECT e.job_id, e.key FROM experiment_jobs e JOIN jobs j ON j.id = e.job_id "
        "WHERE j.kind = 'fit'"
    )
    weights = "model/model.safetensors"
    return {
        job: sha256((undisturbed / "jobs" / key / weights).read_bytes()).hexdigest()
        for job, key in keys
    }


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seeds", type=int, default=10, help="trainings are 2 a seed, and one")
    parser.add_argument("--kills", type=int, default=100)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="stillhouse-distilling-") as name:
        report = distil(Path(name), seed=given.seed, seeds=given.seeds, kills=given.kills)
    print(json.dumps(report.figures, indent=1))
    for violation in report.violations:
        print(f"{violation.invariant}: {violation.what}")
    return 1 if report.violations else 0


if __name__ == "__main__":
    sys.exit(main())

"""Ctrl-C of the whole stack in the middle of a training: started again, it goes on where it was."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
import yaml
from sqlalchemy import make_url

from embedded.postgres import Postgres
from embedded.stack import LEDGER_DATABASE
from embedded.state import ROOT
from kdcore.spec.dataset import DatasetSource
from tests.embedded.stacks import Up
from tests.embedded.waiting import all_gone, until
from tests.shapes import STUDENT, make_shapes

STEPS = 400
EXPERIMENT: dict[str, Any] = {
    "kind": "training",
    "name": "long",
    "dataset": "shapes",
    "model": STUDENT,
    "train": {
        "size": [32, 32], "batch": 2, "steps": STEPS, "ema": 0.9,
        "evaluate_every": STEPS // 2, "checkpoint_every": 20,
    },
    "latency": {"warmup": 1, "runs": 2},
}  # fmt: skip
WEIGHTS = "model/model.safetensors"
# As many slots as cores: one thread a trainer, as in the undisturbed run.
SLOTS = {"KD_CPU_SLOTS": str(os.cpu_count())}


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_training_goes_on_after_ctrl_c_of_the_stack(folder: Path, tmp_path: Path) -> None:
    source = make_shapes(tmp_path / "shapes")
    environment = {**SLOTS, "KD_DATASET_ROOTS": str(tmp_path)}

    up = Up(folder, **environment)
    with api(up.ready().api) as client:
        fit = submit(client, source)
        until(lambda: (client.get(f"/jobs/{fit}").json()["checkpoint_step"] or 0) > 0, seconds=90)
    pids = [process.pid for process in up.below()]
    up.process.send_signal(signal.SIGINT)
    assert up.ended() == 0
    assert all_gone(pids)
    phase, reason, step = stored(folder, fit)
    assert (phase, reason) == ("queued", "interrupted")
    assert 0 < step < STEPS

    up = Up(folder, **environment)
    with api(up.ready().api) as client:
        until(lambda: client.get(f"/jobs/{fit}").json()["phase"] == "succeeded", seconds=120)
        attempts = client.get(f"/jobs/{fit}/attempts").json()["items"]
        steps = {number: trained_steps(client, fit, number) for number in (1, 2)}
        weights = client.get(f"/jobs/{fit}/artifacts/{WEIGHTS}").content
    up.process.send_signal(signal.SIGINT)
    assert up.ended() == 0

    assert [attempt["ended_as"] for attempt in attempts] == ["interrupted", "succeeded"]
    assert steps[1][-1] <= step
    assert step <= steps[2][0] < steps[2][-1] == STEPS
    assert weights == (undisturbed(source, tmp_path) / WEIGHTS).read_bytes()


def api(address: str) -> httpx.Client:
    return httpx.Client(base_url=f"{address}/v1", timeout=60, trust_env=False)


def submit(client: httpx.Client, source: DatasetSource) -> str:
    """The id of the job that trains."""
    registered = client.post("/datasets", json=source.to_json())
    assert registered.status_code == 201, registered.text
    answer = client.post("/experiments", json=EXPERIMENT)
    assert answer.status_code == 201, answer.text
    return next(job["id"] for job in answer.json()["jobs"] if job["kind"] == "fit")


def trained_steps(client: httpx.Client, job: str, attempt: int) -> list[int]:
    """Steps at which this attempt told something of its training, in order."""
    steps: list[int] = []
    after: int = 0
    while True:
        page = client.get(
            f"/jobs/{job}/events", params={"after": after}, headers={"Accept": "application/json"}
        ).json()
        if not page["items"]:
            return steps
        after = page["next_after"]
        steps += [
            event["data"]["step"]
            for event in page["items"]
            if event["attempt"] == attempt and of_training(event)
        ]


def of_training(event: dict[str, Any]) -> bool:
    """Progress or a metric of the loop; what a preflight measures belongs to step 0 of each attempt."""
    if event["type"] == "metric":
        return "train/loss" in event["data"]["values"]
    return event["data"].get("stage") == "training"


def stored(folder: Path, job: str) -> tuple[str, str, int]:
    """Phase, reason and checkpoint of a job while nothing but its database runs."""
    server = Postgres(folder / "postgres")
    server.start()
    try:
        address = make_url(server.url(LEDGER_DATABASE)).set(drivername="postgresql")
        with psycopg.connect(address.render_as_string(hide_password=False)) as connection:
            row = connection.execute(
                "SELECT phase, reason, checkpoint_step FROM jobs WHERE id = %s", (job,)
            ).fetchone()
    finally:
        server.stop()
    assert row is not None
    return row


def undisturbed(source: DatasetSource, folder: Path) -> Path:
    """The run directory of the same training without any service."""
    recipe = folder / "recipe.yaml"
    recipe.write_text(yaml.safe_dump({**EXPERIMENT, "dataset": source.to_json()}))
    subprocess.run(
        [sys.executable, "-m", "kdcore", "run", str(recipe), "--out", str(folder / "out")],
        cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=True, capture_output=True,
    )  # fmt: skip
    return folder / "out/jobs/model-0"

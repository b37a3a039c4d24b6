"""From the claim of a job to its first training step, cold and warm (goal 10).

    python -m benchmarks.first_step --table benchmarks/results/first_step.md

The whole stack is started on an empty state folder; SegFormer-B1 is trained for one step, again and
again. Cold is the first time, with the system's file cache emptied where that is allowed.
"""

import argparse
import os
import sys
import tempfile
import threading
import time
from datetime import datetime
from pathlib import Path
from statistics import median
from typing import Any

import httpx
import torch
import yaml

from benchmarks.speed.machine import describe
from embedded.client import Api
from embedded.stack import Stack
from embedded.state import ROOT, State

EXAMPLE = ROOT / "examples/nuclei"
FILE_CACHE = Path("/proc/sys/vm/drop_caches")
POLL_SECONDS = 0.5


def main(arguments: list[str]) -> None:
    given = _parse(arguments)
    with (
        tempfile.TemporaryDirectory(prefix="stillhouse-first-step-") as folder,
        Stack(State(_traversable(folder)), threading.Event(), sink=None) as stack,
    ):
        stack.start()
        with Api(stack.running.api) as api:
            source = yaml.safe_load((EXAMPLE / "dataset.yaml").read_text())
            api.register_dataset({**source, "root": str(EXAMPLE)})
            emptied = _empty_file_cache()
            seconds = [_seconds(api, stack.running.api, seed) for seed in range(given.runs + 1)]
    cold, warm = seconds[0], seconds[1:]
    described = describe(torch.device("cpu"), os.cpu_count() or 1)
    machine = ", ".join(f"{key} {it}" for key, it in described.items())
    text = "\n".join(
        [
            "# From claim to first step",
            "",
            "SegFormer-B1 from random weights on `examples/nuclei`, batch 2 of 128×128, through the service.",
            "Cold: nothing of the dataset is on the worker"
            + (", and the file cache was emptied." if emptied else "; the file cache was not emptied."),
            "",
            "| | seconds |",
            "|---|---|",
            f"| cold | {cold:.1f} |",
            f"| warm, median of {len(warm)} | {median(warm):.1f} ({min(warm):.1f} to {max(warm):.1f}) |",
            f"| ratio | {cold / median(warm):.1f} |",
            "",
            "    python -m benchmarks.first_step",
            "",
            f"{machine}.",
            "",
        ]
    )  # fmt: skip
    if given.table is not None:
        given.table.write_text(text)
    print(text)


def _traversable(folder: str) -> Path:
    """Where root starts it, Postgres runs as somebody else."""
    path = Path(folder)
    path.chmod(0o755)
    return path


def _empty_file_cache() -> bool:
    os.sync()
    try:
        FILE_CACHE.write_text("3")
    except OSError:
        return False
    return True


def _seconds(api: Api, address: str, seed: int) -> float:
    """Of a job of one step: from its claim to the metrics of that step."""
    accepted = api.submit(_experiment(seed), idempotency_key=f"first-step-{seed}", force=False)
    (job,) = (job["id"] for job in accepted["jobs"] if job["kind"] == "fit")
    while (experiment := api.experiment(accepted["id"]))["phase"] != "succeeded":
        if experiment["phase"] in ("failed", "cancelled"):
            raise SystemExit(f"the experiment {experiment['phase']}: {experiment['jobs']}")
        time.sleep(POLL_SECONDS)
    with httpx.Client(base_url=f"{address}/v1/jobs/{job}", trust_env=False) as client:
        attempts = client.get("/attempts").json()["items"]
        points = client.get("/metrics", params={"key": "train/loss"}).json()["items"]
    return (_time(points[0]["at"]) - _time(attempts[0]["started_at"])).total_seconds()


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _experiment(seed: int) -> dict[str, Any]:
    return {
        "kind": "training",
        "name": "first-step",
        "dataset": "nuclei",
        "model": {"arch": "segformer", "encoder": "mit_b1"},
        "train": {"size": [128, 128], "batch": 2, "steps": 1},
        "seeds": [seed],
    }


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.first_step")
    parser.add_argument("--runs", type=int, default=3, help="warm ones")
    parser.add_argument("--table", type=Path, help="where the table is written")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main(sys.argv[1:])

"""What logging and checkpoints cost a training at its defaults (goal 11).

    python -m benchmarks.recording --table benchmarks/results/recording.md

The student of pair `sf` or `cnn` is distilled; every call in which the loop tells or saves is timed,
and so is the processor time of the thread that writes, as if it all came out of the training's.
"""

import argparse
import functools
import shlex
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import torch

from benchmarks.speed.arms.ours import fit_job
from benchmarks.speed.machine import describe
from benchmarks.speed.scene import Scene, make_scene
from benchmarks.speed.workload import PAIRS, Workload
from kdcore.run.events import EventLog
from kdcore.run.fit import run_fit
from kdcore.train import saving
from kdcore.train.saving import CheckpointWriter
from kdcore.train.trainer import Trainer


def main(arguments: list[str]) -> None:
    given = _parse(arguments)
    torch.set_num_threads(given.threads)
    device = torch.device("cpu")
    rows = []
    for pair in given.pair:
        with tempfile.TemporaryDirectory(prefix="stillhouse-recording-") as folder:
            workload = Workload(pair, size=given.size, batch=given.batch, classes=19)
            scene = make_scene(Path(folder), workload)
            rows.append(_row(workload, scene, given.steps, device))
    machine = ", ".join(f"{key} {it}" for key, it in describe(device, given.threads).items())
    text = "\n".join(
        [
            "# Logging and checkpoints",
            "",
            "Share of the training's wall time that the loop spent telling and saving, and that the",
            "writing thread computed. Defaults: metrics every 10 steps, progress at every step, a",
            f"checkpoint every {max(1, given.steps // 10)} of {given.steps} steps.",
            "",
            "| student | ms a step | logging | saving | writing thread | all | save stall, ms: median, max |",
            "|---|---|---|---|---|---|---|",
            *rows,
            "",
            f"    python -m benchmarks.recording {shlex.join(_without_table(arguments))}",
            "",
            f"{given.size}×{given.size}, batch {given.batch}; {machine}.",
            "",
        ]
    )  # fmt: skip
    if given.table is not None:
        given.table.write_text(text)
    print(text)


def _row(workload: Workload, scene: Scene, steps: int, device: torch.device) -> str:
    job = fit_job(scene, cached=False)
    train = job.train.model_copy(
        update={"steps": steps, "evaluate_every": steps, "checkpoint_every": max(1, steps // 10)}
    )
    run = scene.root / "run"
    run.mkdir()
    (run / "inputs").symlink_to(scene.root / "inputs")
    log = EventLog(run)
    with (
        _timed(Trainer, "_step") as stepping,
        _timed(Trainer, "_tell") as telling,
        _timed(Trainer, "_checkpoint") as stalls,
        _timed(CheckpointWriter, "poll") as polling,
        _timed(saving, "save_checkpoint", clock=time.thread_time) as writing,
    ):
        run_fit(
            run, job.model_copy(update={"train": train}), scene.manifest,
            log=log, stop_requested=lambda: False, device=device,
        )  # fmt: skip
    log.close()
    parts = [sum(telling), sum(stalls) + sum(polling), sum(writing)]
    whole = sum(stepping) + sum(telling) + sum(stalls) + sum(polling)
    shares = " | ".join(f"{each / whole:.2%}" for each in (*parts, sum(parts)))
    regular = stalls[1:]  # the first is before the training and gets its memory
    return (
        f"| {workload.pair} | {1e3 * whole / steps:.0f} | {shares} "
        f"| {1e3 * median(regular):.0f}, {1e3 * max(regular):.0f} |"
    )


@contextmanager
def _timed(
    owner: Any, name: str, clock: Callable[[], float] = time.perf_counter
) -> Iterator[list[float]]:
    """Seconds of each call of ``owner.name``."""
    original, seconds = getattr(owner, name), []

    @functools.wraps(original)
    def timed(*args: Any, **kwargs: Any) -> Any:
        began = clock()
        try:
            return original(*args, **kwargs)
        finally:
            seconds.append(clock() - began)

    setattr(owner, name, timed)
    try:
        yield seconds
    finally:
        setattr(owner, name, original)


def _without_table(arguments: list[str]) -> list[str]:
    if "--table" not in arguments:
        return arguments
    place = arguments.index("--table")
    return arguments[:place] + arguments[place + 2 :]


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.recording")
    parser.add_argument("--pair", nargs="+", choices=PAIRS, default=["sf", "cnn"])
    parser.add_argument("--size", type=int, default=256, help="crop, pixels")
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--table", type=Path, help="where the table is written")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main(sys.argv[1:])

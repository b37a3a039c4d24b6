"""A table of methods: distillation recipes that share teacher, student, data and budget, over seeds.

    python -m benchmarks.methods recipes/camvid-{kd,dist,cwd,mixed}.yaml --form small \\
        --data FOLDER --out runs/camvid --processes 2 --table docs/results/camvid.md

What recipes have in common (the teacher, the plain students) is trained once. Interrupted, the same
command goes on where it was. The weights are those with the best val mIoU; the table is of test.
"""

import argparse
import multiprocessing
import shlex
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import torch

from benchmarks.contest import Contest, run_fits
from benchmarks.table import Row, to_markdown
from kdcore.data.samples import Samples
from kdcore.models.store import load_model
from kdcore.run.forms import FORMS
from kdcore.spec.dataset import DatasetManifest
from kdcore.spec.rundir import DATASET, DATASET_MANIFEST, MODEL
from kdcore.train.evaluate import Confusions, evaluate


def main(arguments: list[str]) -> None:
    given = _parse(arguments)
    started = time.monotonic()
    contest = Contest(given.out)
    for recipe in given.recipes:
        contest.enter(recipe, form=given.form, data=given.data, settings=given.settings)
    run_fits(contest.fits, processes=given.processes)
    scored = _score(list(contest.fits), given.split, processes=given.processes)
    rows = [
        Row(name, name in contest.teachers, [scored[run] for run in runs])
        for name, runs in contest.methods.items()
    ]
    assert contest.manifest is not None, "at least one recipe is asked for"
    minutes = (time.monotonic() - started) / 60
    text = to_markdown(
        rows,
        classes=[entry.name for entry in contest.manifest.classes],
        split=given.split,
        command=f"python -m benchmarks.methods {shlex.join(arguments)}",
        effort=f"{minutes:.0f} minutes, {given.processes} processes of one thread",
    )
    if given.table is not None:
        given.table.parent.mkdir(parents=True, exist_ok=True)
        given.table.write_text(text)
    print(text)


def _score(runs: list[Path], split: str, *, processes: int) -> dict[Path, Confusions]:
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, mp_context=context) as pool:
        return dict(zip(runs, pool.map(_confusions, runs, [split] * len(runs)), strict=True))


def _confusions(run: Path, split: str) -> Confusions:
    torch.set_num_threads(1)
    manifest = DatasetManifest.model_validate_json((run / DATASET_MANIFEST).read_bytes())
    samples = Samples(run / DATASET, manifest, manifest.splits[split])
    model, _ = load_model(run / MODEL)
    return evaluate(model, samples, device=torch.device("cpu"))


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.methods")
    parser.add_argument("recipes", type=Path, nargs="+")
    parser.add_argument("--form", choices=FORMS, help="a smaller form that the recipes describe")
    parser.add_argument("--data", type=Path, help="the dataset's folder, instead of its `root`")
    parser.add_argument("--out", type=Path, required=True, help="a folder for the runs")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument(
        "--set", dest="settings", action="append", default=[], metavar="PATH=VALUE",
        help="a value of all recipes",
    )  # fmt: skip
    parser.add_argument("--split", default="test", choices=["val", "test"])
    parser.add_argument("--table", type=Path, help="where the table is written")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main(sys.argv[1:])

"""A comparison: every contestant on the same images, then the verdict and its report."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from kdcore.data.samples import Samples, cache_folder
from kdcore.distill.class_map import with_classes
from kdcore.errors import Interrupted, PreflightFailed
from kdcore.files import write_text
from kdcore.models.measure import flops, latency, parameters
from kdcore.models.store import WEIGHTS, ModelCard, load_model
from kdcore.report.palette import palette
from kdcore.report.render import Figure, to_html, to_markdown
from kdcore.report.scores import mean_iou
from kdcore.report.verdict import Measured, judge
from kdcore.run.events import EventLog, now
from kdcore.run.pictures import Entry, draw
from kdcore.spec.class_map import ClassesDiffer, Sources, known_classes, map_classes
from kdcore.spec.dataset import DatasetManifest
from kdcore.spec.events import ImageWritten, Metric, Progress
from kdcore.spec.job import CompareJob, Contestant
from kdcore.spec.outcome import Outcome
from kdcore.spec.rundir import DATASET, REPORT, VERDICT
from kdcore.train.evaluate import evaluate

BOOTSTRAP_SEED = 0


def run_compare(
    run: Path,
    job: CompareJob,
    manifest: DatasetManifest,
    *,
    log: EventLog,
    stop_requested: Callable[[], bool],
    device: torch.device,
) -> Outcome:
    """Leaves `report/`: verdict.json, verdict.md, verdict.html, images. Raises: KdError.

    Without a split of the name asked for, val is taken and the verdict says so.
    """
    split = job.split if manifest.splits.get(job.split) else "val"
    samples = Samples(run / DATASET, manifest, manifest.splits[split], cache=cache_folder())
    samples.check_presence()

    entries: list[Entry] = []

    def between() -> None:
        _progress(log, "evaluating", len(entries), len(job.contestants))
        if stop_requested():
            raise Interrupted("stopped during the comparison; it starts anew")

    for contestant in job.contestants:
        entries.append(
            _measure(run, job, contestant, manifest, samples, device=device, between=between)
        )
        miou = mean_iou(entries[-1].measured.scored.sum(0))
        log.add(Metric(at=now(), step=0, values={f"{split}/miou/{contestant.name}": miou}))
    _progress(log, "reporting", len(entries), len(entries))
    verdict = judge(
        [entry.measured for entry in entries],
        classes=[entry.name for entry in manifest.classes],
        split=split,
        rng=np.random.default_rng(BOOTSTRAP_SEED),
        unlabelled_used=job.unlabelled_used,
    )
    (run / REPORT).mkdir(exist_ok=True)
    figures = draw(entries, manifest, samples, device=device)
    images = _save(run, figures, log)
    texts = {
        VERDICT: json.dumps(verdict.to_json(), indent=2),
        f"{REPORT}/verdict.md": to_markdown(verdict),
        f"{REPORT}/verdict.html": to_html(verdict, figures, palette=palette(manifest.classes)),
    }
    for path, text in texts.items():
        write_text(run / path, text)
    metrics = {f"{split}/miou/{row.name}": row.miou for row in verdict.contestants}
    return Outcome(status="succeeded", metrics=metrics, files=(*texts, *images))


def _measure(
    run: Path,
    job: CompareJob,
    contestant: Contestant,
    manifest: DatasetManifest,
    samples: Samples,
    *,
    device: torch.device,
    between: Callable[[], None],
) -> Entry:
    folder = run / contestant.path
    model, card = load_model(folder, field=f"contestants.{contestant.name}")
    sources = _sources(contestant, card, manifest)
    model = with_classes(model, sources).to(device)
    size = job.latency.size or card.size
    measured = Measured(
        role=contestant.role,
        name=contestant.name,
        seed=contestant.seed,
        confusions=evaluate(model, samples, device=device, between=between),
        parameters=parameters(model),
        size_bytes=(folder / WEIGHTS).stat().st_size,
        flops=flops(model, size),
        latency=latency(model, job.latency, size, between=between),
        known=known_classes(sources),
    )
    return Entry(contestant, model, measured)


def _sources(contestant: Contestant, card: ModelCard, manifest: DatasetManifest) -> Sources:
    has, wanted = ([entry.name for entry in of.classes] for of in (card, manifest))
    try:
        return map_classes(has, wanted, contestant.classes)
    except ClassesDiffer as error:
        raise PreflightFailed(
            f"{contestant.name}: {error.message}",
            field="models" if contestant.role == "model" else f"{contestant.role}s",
            remedy=error.remedy
            if contestant.role == "teacher"
            else "compare models that were trained on these classes",
        ) from error


def _save(run: Path, figures: list[Figure], log: EventLog) -> list[str]:
    """The pictures as files beside the page, which holds them too."""
    paths = []
    (run / REPORT / "images").mkdir(exist_ok=True)
    for index, figure in enumerate(figures):
        path = f"{REPORT}/images/{index:02d}.png"
        figure.image.save(run / path)
        log.add(ImageWritten(at=now(), step=0, path=path, caption=figure.caption))
        paths.append(path)
    return paths


def _progress(
    log: EventLog, stage: Literal["evaluating", "reporting"], step: int, steps: int
) -> None:
    log.add(Progress(at=now(), stage=stage, step=step, steps=steps))

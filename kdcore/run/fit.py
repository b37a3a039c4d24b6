"""A fit job: build, check, train, keep the best."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

from kdcore import __version__
from kdcore.data.samples import Samples, cache_folder
from kdcore.distill.objective import Objective
from kdcore.distill.replay import open_replay
from kdcore.distill.teachers import load_teachers
from kdcore.errors import Interrupted
from kdcore.models.network import build_model
from kdcore.models.store import ModelCard, save_model
from kdcore.ranks import ALONE, Ranks
from kdcore.run import preflight
from kdcore.run.computing import choices, settle
from kdcore.run.events import EventLog
from kdcore.run.watching import RunWatcher, score_values, speed_values
from kdcore.spec.dataset import DatasetManifest
from kdcore.spec.job import FitJob
from kdcore.spec.model import ModelSpec
from kdcore.spec.outcome import Outcome
from kdcore.spec.rundir import (
    CACHE,
    DATASET,
    MODEL,
    MODEL_CARD,
    MODEL_INPUTS,
    MODEL_WEIGHTS,
    PROFILE,
)
from kdcore.spec.train import TrainSpec
from kdcore.train.evaluate import evaluate
from kdcore.train.profile import Profile
from kdcore.train.trainer import Trainer


def run_fit(
    run: Path,
    job: FitJob,
    manifest: DatasetManifest,
    *,
    log: EventLog,
    stop_requested: Callable[[], bool],
    device: torch.device,
    profile: bool = False,
    ranks: Ranks = ALONE,
) -> Outcome:
    """Train as the job says, resuming if there is a checkpoint; leaves `model/`. Raises: KdError.

    Of several ranks all do the same; the first alone checks, evaluates and leaves files.
    """
    watcher = RunWatcher(
        log, stop_requested,
        classes=manifest.classes, steps=job.train.steps, batch=job.train.batch,
    )  # fmt: skip

    def between() -> None:
        watcher.stage("evaluating")
        if stop_requested():
            raise Interrupted("stopped during an evaluation; it starts anew")

    watcher.stage("preparing")
    root = run / DATASET
    cache = cache_folder()
    train, val = (
        Samples(root, manifest, manifest.splits[name], cache=cache) for name in ("train", "val")
    )
    pool = Samples(root, manifest, manifest.unlabelled, cache=cache) if job.unlabelled else None
    for samples in (train, val, pool):
        if samples is not None:
            samples.check_presence()

    # Baseline and distilled student of one seed start from the same weights: nothing random before.
    torch.manual_seed(job.seed)
    model = build_model(_placed(job.model, run), len(manifest.classes)).to(device)
    teachers = load_teachers(run, job.teachers, manifest.classes, device=device)
    train_spec = settle(job.train, model, teachers, device=device)
    job = job.model_copy(update={"train": train_spec})
    watcher.stage("preflight")
    torch.manual_seed(job.seed)
    objective = Objective(
        job.objective, model, teachers,
        ensemble_spec=job.ensemble,
        steps=job.train.steps,
        class_pixels=manifest.statistics["train"].class_pixels,
        replay=open_replay(run, job, manifest, cache=cache or run / CACHE, warned=watcher.warned),
        min_confidence=job.unlabelled.min_confidence if job.unlabelled else None,
    ).to(device)  # fmt: skip
    own = job.model_copy(update={"train": share_of(job.train, ranks)})
    parts = preflight.Parts(
        run, own, manifest, model, objective, teachers, train, val, pool, device=device
    )
    needed = ranks.from_first(
        lambda: preflight.check(parts, warn=watcher.warned, tell=watcher.found, between=between)
    )
    # What ranks exchange is not compiled: it has never been tried.
    compiled = (
        train_spec.compile == "on"
        and ranks.count == 1
        and preflight.compile_networks(parts, cache=cache, warn=watcher.warned)
    )
    watcher.resolved(choices(train_spec, teachers, compiled=compiled))

    trainer = Trainer(
        model, objective, job.train,
        run=run, seed=job.seed, device=device, watcher=watcher,
        refuse=partial(preflight.exhausted, needed),
        profile=Profile(run / PROFILE, device) if profile and ranks.first else None,
        ranks=ranks,
    )  # fmt: skip
    share = job.unlabelled.share if job.unlabelled else 0.0
    best = trainer.fit(train, pool, val, share=share, workers=_workers(device, ranks))

    assert best.state is not None, "the last step always evaluates"
    model.net.load_state_dict(best.state)
    metrics = ranks.from_first(
        lambda: score_values(
            evaluate(model, val, device=device, between=between), manifest.classes, prefix="val"
        )
    )
    card = ModelCard(
        model=job.model,
        classes=manifest.classes,
        dataset=job.dataset,
        size=job.train.size,
        step=best.step,
        metrics=metrics,
        kdcore=__version__,
    )
    ranks.from_first(lambda: save_model(model, card, run / MODEL))
    return Outcome(
        status="succeeded",
        step=trainer.step,
        metrics=metrics,
        speed=speed_values(trainer.speed.overall()),
        files=(MODEL_WEIGHTS, MODEL_CARD),
    )


def _placed(model: ModelSpec, run: Path) -> ModelSpec:
    """Weights that are an input of the job lie in its run directory."""
    if model.weights is None or not model.weights.startswith(f"{MODEL_INPUTS}/"):
        return model
    return model.model_copy(update={"weights": str(run / model.weights)})


def share_of(train: TrainSpec, ranks: Ranks) -> TrainSpec:
    """The training as one rank sees it, with its part of the batch."""
    return train.model_copy(update={"batch": train.batch // ranks.count, "gpus": 1})


def _workers(device: torch.device, ranks: Ranks) -> int:
    """Loader processes: a GPU must not wait for views; on the CPU they would only take cores away."""
    if device.type != "cuda":
        return 0
    return min(8, max(0, torch.multiprocessing.cpu_count() // ranks.count - 1))

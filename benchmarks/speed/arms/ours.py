"""kdcore as `kd run` uses it, at its defaults (B), and with the teachers' logits kept (Bcache)."""

import os
import weakref
from collections.abc import Callable
from contextlib import suppress

import torch
from torch import Tensor, nn

from benchmarks.speed.scene import Scene
from benchmarks.speed.workload import Workload
from kdcore.data.batches import Batch
from kdcore.distill.objective import Objective, Total
from kdcore.distill.replay import open_replay
from kdcore.distill.teachers import load_teachers
from kdcore.errors import Interrupted
from kdcore.run.events import EventLog
from kdcore.run.watching import RunWatcher
from kdcore.spec.job import FitJob
from kdcore.train.trainer import Trainer

_SETTINGS = ("precision", "compile", "memory_format")
_WORKERS_GPU = 8
_VIEWS = 1
"""Of each image in Bcache: after one epoch all are kept, and what is measured is the reading."""


class Ours:
    """A `Trainer` that is interrupted after the asked steps, and goes on with the next."""

    def __init__(self, scene: Scene, device: torch.device, *, cached: bool = False) -> None:
        self.scene, self.device = scene, device
        self.job = fit_job(scene, cached=cached)
        # Arms of one scene train side by side.
        self.run = scene.root / "runs" / f"{'Bcache' if cached else 'B'}-{os.getpid()}"
        self.run.mkdir(parents=True)
        self.train_samples, self.val_samples = scene.samples(), scene.samples("val")
        workers = min(_WORKERS_GPU, (os.cpu_count() or 1) - 1)
        self.workers = workers if device.type == "cuda" else 0

    @property
    def settings(self) -> dict[str, str]:
        resolved = self.trainer.spec.to_json()
        return {name: str(resolved[name]) for name in _SETTINGS if name in resolved}

    def load_models(self) -> None:
        job, manifest = self.job, self.scene.manifest
        self.model = self.scene.student().to(self.device)
        teachers = load_teachers(
            self.scene.root, job.teachers, manifest.classes, device=self.device
        )
        log = EventLog(self.run)
        weakref.finalize(self, log.close)
        self.pace = _Pace(
            log, lambda: self.pace.left == 0,
            classes=manifest.classes, steps=job.train.steps, batch=job.train.batch,
        )  # fmt: skip
        replay = open_replay(
            self.scene.root, job, manifest, cache=self.run / "cache", warned=self.pace.warned
        )
        self.objective = Objective(
            job.objective, self.model, teachers,
            ensemble_spec=job.ensemble,
            steps=job.train.steps,
            class_pixels=manifest.statistics["train"].class_pixels,
            replay=replay,
        ).to(self.device)  # fmt: skip
        self.trainer = Trainer(
            self.model, self.objective, job.train,
            run=self.run, seed=job.seed, device=self.device, watcher=self.pace,
        )  # fmt: skip
        torch.manual_seed(job.seed)

    def train(self, steps: int, done: Callable[[], None]) -> list[float]:
        """Between two calls the trainer writes and reads a checkpoint."""
        losses: list[Tensor] = []

        def note(_: nn.Module, __: object, total: Total) -> None:
            losses.append(total.loss.detach())

        self.pace.left, self.pace.stepped = steps, done
        handle = self.objective.register_forward_hook(note)
        with suppress(Interrupted):
            self.trainer.fit(
                self.train_samples, None, self.val_samples, share=0, workers=self.workers
            )
        handle.remove()
        return [loss.item() for loss in losses]

    def loss(self, batch: Batch) -> Total:
        """Of the network in fp32, in train mode."""
        total: Total = self.objective(self.model.train(), batch.to(self.device), 0)
        return total

    def gradients(self) -> dict[str, Tensor]:
        """After `loss`'s backward."""
        named = self.model.net.named_parameters()
        return {name: parameter.grad for name, parameter in named if parameter.grad is not None}


def fit_job(scene: Scene, *, cached: bool) -> FitJob:
    """fp16 is the form in which recipes keep logits; `single` suits every network."""
    workload = scene.workload
    return FitJob.model_validate(
        {
            "dataset": scene.manifest.fingerprint(),
            "model": workload.student,
            "objective": objective_terms(workload),
            "train": scene.train_spec(views=_VIEWS if cached else None),
            "seed": workload.seed,
            "teachers": scene.teacher_inputs,
            "teacher_cache": {"dtype": "fp16", "forward": "single"} if cached else None,
        }
    )


def objective_terms(workload: Workload) -> list[dict[str, object]]:
    grid = {} if workload.kl_grid == "logits" else {"grid": workload.kl_grid}
    kd = {"kind": "kd", "temperature": workload.temperature, "weight": workload.kd_weight, **grid}
    return [{"kind": "ce"}, kd]


class _Pace(RunWatcher):
    """Says when a step is done, and asks for a stop after the last."""

    left = 0
    stepped: Callable[[], None]

    def progressed(self, step: int) -> None:
        super().progressed(step)
        self.left -= 1
        self.stepped()

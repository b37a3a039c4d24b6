"""The training loop."""

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from kdcore.data.batches import Batch, batches
from kdcore.data.samples import Samples
from kdcore.distill.objective import Objective, Total
from kdcore.errors import CheckpointCorrupt, Interrupted, NonFiniteLoss, SpecError
from kdcore.models.network import SegmentationModel
from kdcore.ranks import ALONE, Ranks
from kdcore.report.scores import score
from kdcore.spec.train import TrainSpec
from kdcore.timing import part
from kdcore.train import chance
from kdcore.train.batch_norm import synchronise_batch_norm
from kdcore.train.checkpoint import load_checkpoint
from kdcore.train.computing import precision_of
from kdcore.train.ema import Ema
from kdcore.train.evaluate import Confusions, evaluate
from kdcore.train.finite import FiniteCheck
from kdcore.train.gradients import Gradients, Refuse, refuse
from kdcore.train.optimizer import build_optimizer, restore_optimizer, set_learning_rate
from kdcore.train.profile import Profile
from kdcore.train.saving import CheckpointWriter
from kdcore.train.speed import Speed

METRICS_EVERY = 10
"""Steps between two points of the training metrics; on a GPU, also between two looks at them."""


class Watcher(Protocol):
    """What the loop tells, and asks, whoever started it."""

    def stop_requested(self) -> bool: ...
    def trained(self, step: int, values: dict[str, float]) -> None: ...
    def timed(self, step: int, values: dict[str, float]) -> None: ...
    def progressed(self, step: int) -> None: ...
    def evaluated(self, step: int, confusions: Confusions) -> None: ...
    def checkpointed(self, step: int, path: str) -> None: ...
    def warned(self, code: str, message: str) -> None: ...


@dataclass
class Best:
    """The weights with the highest val mIoU so far; what the run gives away in the end."""

    miou: float = -1.0
    step: int = 0
    state: dict[str, Tensor] | None = None


class Trainer:
    """One network, one objective, one run directory; ``fit`` resumes from the last checkpoint."""

    def __init__(
        self,
        model: SegmentationModel,
        objective: Objective,
        spec: TrainSpec,
        *,
        run: Path,
        seed: int,
        device: torch.device,
        watcher: Watcher,
        refuse: Refuse = refuse,
        profile: Profile | None = None,
        ranks: Ranks = ALONE,
    ) -> None:
        self.model, self.objective = model.to(device), objective.to(device)
        self.spec, self.ranks = spec.resolved(), ranks
        objective.ranks = ranks
        synchronise_batch_norm(model.net, spec, device, ranks, watcher.warned)
        self.run, self.seed, self.device, self.watcher = run, seed, device, watcher
        self.optimizer = build_optimizer(model, objective.parameters(), spec)
        self.ema = Ema(model.net, spec.ema) if spec.ema is not None else None
        self.best = Best()
        self.step = 0
        self.rollbacks = 0
        self.stale_evaluations = 0
        self.evaluated_step = 0
        half = precision_of(spec, model, device) == "bf16"
        self.gradients = Gradients(
            model, objective, half=half, warned=watcher.warned, refuse=refuse, ranks=ranks
        )
        self.speed, self.profile = Speed(), profile
        self.writer = CheckpointWriter(run, watcher.checkpointed)
        # Reading a value makes the host wait for a GPU; on the CPU it costs nothing.
        self.finite = FiniteCheck(METRICS_EVERY if device.type == "cuda" else 1, ranks)

    def fit(
        self, train: Samples, pool: Samples | None, val: Samples, *, share: float, workers: int
    ) -> Best:
        """Train to the last step and return the best weights on ``val``.

        Raises: Interrupted (after a checkpoint), NonFiniteLoss, DiskFull, OutOfMemory.
        """
        with self.writer:
            self._resume_or_start()
            try:
                self._train_to_the_end(train, pool, val, share=share, workers=workers)
            except Interrupted:
                self._checkpoint()
                self.writer.join()
                raise
            finally:
                if self.profile is not None:
                    self.profile.close()
        return self.best

    def _train_to_the_end(
        self, train: Samples, pool: Samples | None, val: Samples, *, share: float, workers: int
    ) -> None:
        if self._evaluation_due():
            # The run was stopped in the middle of it.
            self._evaluate(val)
        while self.step < self.spec.steps and not self._stale():
            stream = batches(
                train, pool, self.spec,
                share=share, seed=self.seed, start=self.step, workers=workers,
                ranks=self.ranks,
            )  # fmt: skip
            try:
                self._train_on(stream, val)
            except NonFiniteLoss as error:
                self._roll_back(error)

    def _train_on(self, stream: Iterator[Batch], val: Samples) -> None:
        self.model.train()
        for batch in self.speed.timed(stream):
            total = self._step(batch.to(self.device))
            self.step += 1
            with part("logging"):
                self._tell(total, len(batch.images_NCHW))
            if self.profile is not None:
                self.profile.stepped()
            if self._evaluation_due():
                self._evaluate(val)
            self.writer.poll()
            if self._due(self.spec.checkpoint_every):
                self._checkpoint()
            self._leave_if_asked()
            if self._stale():
                return

    def _step(self, batch: Batch) -> Total:
        set_learning_rate(self.optimizer, self.spec, self.step)
        total = self.gradients.of(batch, self.step)
        with part("optimizer"):
            self.finite.note(self.step, total, self._clip_gradients())
            self.optimizer.step()
            if self.ema is not None:
                self.ema.update(self.model.net)
        return total

    def _clip_gradients(self) -> Tensor:
        """Their global norm before it."""
        parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        norm = nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
        if self.spec.clip_norm is not None:
            nn.utils.clip_grads_with_norm_(parameters, self.spec.clip_norm, norm)
        return norm

    def _evaluate(self, val: Samples) -> None:
        """Val mIoU of the weights, and of their average; the better of the two may be the best."""
        self.finite.look()
        current = _copied(self.model.net.state_dict())
        candidates = [current] if self.ema is None else [current, self.ema.state]
        miou, chosen = self.ranks.from_first(lambda: self._scored(candidates, val))
        self.evaluated_step = self.step
        if miou > self.best.miou:
            self.best = Best(miou, self.step, _copied(candidates[chosen]))
            self.stale_evaluations = 0
        else:
            self.stale_evaluations += 1

    def _scored(self, candidates: list[dict[str, Tensor]], val: Samples) -> tuple[float, int]:
        """Val mIoU and place of the best among ``candidates``, of which the first are the weights."""
        scored = []
        try:
            for state in candidates:
                self.model.net.load_state_dict(state)
                confusions = evaluate(
                    self.model, val, device=self.device, between=self._between_images
                )
                scored.append((score(confusions.sum(0)).miou, confusions))
        finally:
            self.model.net.load_state_dict(candidates[0])
        chosen = max(range(len(scored)), key=lambda index: scored[index][0])
        self.watcher.evaluated(self.step, scored[chosen][1])
        return scored[chosen][0], chosen

    def _tell(self, total: Total, images: int) -> None:
        metrics_due = self.step % METRICS_EVERY == 0 or self.step == self.spec.steps
        if metrics_due:
            self.finite.look()
        self.speed.stepped(images * self.ranks.count)
        if metrics_due:
            told = {**total.terms, "loss": total.loss}
            found = self.ranks.sum(torch.stack([*told.values()])).tolist()
            values = dict(zip(told, found, strict=True))
            values["learning_rate"] = self.optimizer.param_groups[0]["lr"]
            self.watcher.trained(self.step, values)
            self.watcher.timed(self.step, self.speed.report())
        self.watcher.progressed(self.step)

    def _due(self, every: int | str) -> bool:
        assert isinstance(every, int), "a job's spec has its `auto` values resolved"
        return self.step % every == 0 or self.step == self.spec.steps

    def _evaluation_due(self) -> bool:
        due = self.step > 0 and self._due(self.spec.evaluate_every)
        return due and self.evaluated_step < self.step

    def _between_images(self) -> None:
        """A long evaluation must neither look like a hang nor hold up a stop."""
        self.watcher.progressed(self.step)
        if self.watcher.stop_requested():
            raise self._interrupted()

    def _leave_if_asked(self) -> None:
        if self.ranks.any(self.watcher.stop_requested()):
            self.finite.look()
            raise self._interrupted()

    def _interrupted(self) -> Interrupted:
        return Interrupted(
            f"stopped after step {self.step}, checkpoint written",
            remedy="run it again: it goes on from there",
        )

    def _stale(self) -> bool:
        stop = self.spec.early_stop
        return stop is not None and self.stale_evaluations >= stop.patience

    def _resume_or_start(self) -> None:
        state = self._load()
        if state is not None:
            self._restore(state)
        else:
            chance.start(self.seed, self.ranks.rank)
            # The place to roll back to before the first regular checkpoint.
            self._checkpoint()

    def _roll_back(self, error: NonFiniteLoss) -> None:
        """Once: the fault may have been the machine's. Again: it is the training's."""
        rollbacks = self.rollbacks + 1
        if rollbacks > 1:
            raise error
        self.writer.join()
        state = self._load()
        if state is None:
            raise CheckpointCorrupt("no intact checkpoint to roll back to") from error
        self._restore(state)
        self.rollbacks = rollbacks
        self.watcher.warned("rolled_back", f"{error.message}; back to step {self.step}")

    def _load(self) -> dict[str, Any] | None:
        """The newest intact checkpoint; the first rank has removed the others before they look."""
        load = functools.partial(load_checkpoint, self.run, device=self.device)
        here = load() if self.ranks.first else None
        found = self.ranks.from_first(lambda: here is not None)
        return load() if found and not self.ranks.first else here

    def _checkpoint(self) -> None:
        self.finite.look()
        state = self._state()
        if self.ranks.first:
            best = {"miou": self.best.miou, "step": self.best.step, "state": self.best.state}
            self.writer.write(self.step, state, {"best": best})

    def _state(self) -> dict[str, Any]:
        """All that changes from step to step. The best weights are replaced, never written to."""
        return {
            "step": self.step,
            "model": self.model.net.state_dict(),
            "objective": self.objective.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "ema": self.ema.state_dict() if self.ema is not None else None,
            "rollbacks": self.rollbacks,
            "parts": self.gradients.parts,
            "stale_evaluations": self.stale_evaluations,
            "evaluated_step": self.evaluated_step,
            "chance": self.ranks.gathered(chance.state_of(self.device)),
        }

    def _restore(self, state: dict[str, Any]) -> None:
        if len(state["chance"]) != self.ranks.count:
            raise SpecError(
                f"the checkpoint is of a training on {len(state['chance'])} GPUs, and this one has "
                f"{self.ranks.count}: their random numbers and sums would be others",
                field="train.gpus",
                remedy=f"go on with {len(state['chance'])}, or start anew",
            )
        self.step = state["step"]
        self.model.net.load_state_dict(state["model"])
        self.objective.load_state_dict(state["objective"])
        restore_optimizer(self.optimizer, state["optimizer"])
        if self.ema is not None:
            self.ema.load_state_dict(state["ema"])
        self.best = Best(**state["best"])
        self.rollbacks = state["rollbacks"]
        self.gradients.parts = state["parts"]
        self.stale_evaluations = state["stale_evaluations"]
        self.evaluated_step = state["evaluated_step"]
        chance.restore(state["chance"][self.ranks.rank], self.device)


def _copied(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in state.items()}

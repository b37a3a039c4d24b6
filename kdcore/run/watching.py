"""What a training tells becomes events of its run."""

import time
from collections.abc import Callable, Mapping
from typing import Literal

from kdcore.report.scores import score
from kdcore.run.events import EventLog, now
from kdcore.spec.dataset import ClassEntry
from kdcore.spec.events import CheckpointWritten, Metric, Progress, Resolved, Warned
from kdcore.train.evaluate import Confusions

Stage = Literal["preparing", "preflight", "training", "evaluating", "reporting"]
_PROGRESS_SECONDS = 1.0


class RunWatcher:
    """Implements `kdcore.train.trainer.Watcher` on an event log."""

    def __init__(
        self,
        log: EventLog,
        stop_requested: Callable[[], bool],
        *,
        classes: tuple[ClassEntry, ...],
        steps: int,
        batch: int,
    ) -> None:
        self._log, self.stop_requested = log, stop_requested
        self._classes, self._steps, self._batch = classes, steps, batch
        self._told, self._told_step = 0.0, -1
        self._since: tuple[float, int] | None = None

    def stage(self, stage: Stage, step: int = 0) -> None:
        self._log.add(Progress(at=now(), stage=stage, step=step, steps=self._steps))

    def progressed(self, step: int) -> None:
        clock = time.monotonic()
        if self._since is None:
            self._since = (clock, step)
        first_word_of_the_end = step == self._steps and self._told_step < step
        if clock - self._told < _PROGRESS_SECONDS and not first_word_of_the_end:
            return
        self._told, self._told_step = clock, step
        seconds, steps = clock - self._since[0], step - self._since[1]
        per_step = seconds / steps if steps > 0 else None
        self._log.add(
            Progress(
                at=now(),
                stage="training",
                step=step,
                steps=self._steps,
                remaining_seconds=None if per_step is None else per_step * (self._steps - step),
                images_per_second=self._batch / per_step if per_step else None,
            )
        )

    def trained(self, step: int, values: dict[str, float]) -> None:
        prefixed = {f"train/{name}": value for name, value in values.items()}
        self._log.add(Metric(at=now(), step=step, values=prefixed))

    def timed(self, step: int, values: dict[str, float]) -> None:
        self._log.add(Metric(at=now(), step=step, values=speed_values(values)))

    def found(self, values: Mapping[str, float]) -> None:
        """What the preflight has measured."""
        self._log.add(Metric(at=now(), step=0, values=dict(values)))

    def evaluated(self, step: int, confusions: Confusions) -> None:
        values = score_values(confusions, self._classes, prefix="val")
        self._log.add(Metric(at=now(), step=step, values=values))

    def checkpointed(self, step: int, path: str) -> None:
        self._log.add(CheckpointWritten(at=now(), step=step, path=path))

    def resolved(self, values: Mapping[str, str]) -> None:
        """What the spec left to the machine."""
        self._log.add(Resolved(at=now(), values=dict(values)))

    def warned(self, code: str, message: str) -> None:
        self._log.add(Warned(at=now(), code=code, message=message))


def speed_values(values: Mapping[str, float]) -> dict[str, float]:
    """``speed/images_per_second`` and ``speed/input_stall``, of `kdcore.train.speed.Speed`."""
    return {f"speed/{name}": value for name, value in values.items()}


def score_values(
    confusions: Confusions, classes: tuple[ClassEntry, ...], *, prefix: str
) -> dict[str, float]:
    """``val/miou``, ``val/pixel_accuracy`` and ``val/iou/{class}`` for the classes that occur."""
    scores = score(confusions.sum(0))
    values = {f"{prefix}/miou": scores.miou, f"{prefix}/pixel_accuracy": scores.pixel_accuracy}
    for entry, iou in zip(classes, scores.iou, strict=True):
        if iou is not None:
            values[f"{prefix}/iou/{entry.name}"] = iou
    return values

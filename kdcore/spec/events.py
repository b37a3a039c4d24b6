"""The lines of `events.jsonl`: what a run tells whoever watches it, in order."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from kdcore.spec.base import Spec
from kdcore.spec.layouts import RelativePath


class _Event(Spec):
    at: datetime = Field(description="Aware, UTC")


class Progress(_Event):
    type: Literal["progress"] = "progress"
    stage: Literal["preparing", "preflight", "training", "evaluating", "reporting"]
    step: int
    steps: int
    remaining_seconds: float | None = None
    images_per_second: float | None = None


class Metric(_Event):
    """Values at one step; keys such as ``train/loss``, ``train/kd``, ``val/miou``, ``val/iou/{class}``.

    ``speed/images_per_second`` and ``speed/input_stall``, the share of the steps' time that was
    waited for data (0 to 1), are those since the last point.
    """

    type: Literal["metric"] = "metric"
    step: int
    values: dict[str, float]


class CheckpointWritten(_Event):
    """A checkpoint is complete on disk: its folder holds `manifest.json`, written last."""

    type: Literal["checkpoint"] = "checkpoint"
    step: int
    path: RelativePath


class ImageWritten(_Event):
    type: Literal["image"] = "image"
    step: int
    path: RelativePath
    caption: str


class Warned(_Event):
    type: Literal["warning"] = "warning"
    code: str
    message: str


class Resolved(_Event):
    """What the spec left to the machine, by field: ``train.precision``, ``train.compile``, ..."""

    type: Literal["resolved"] = "resolved"
    values: dict[str, str]


Event = Annotated[
    Progress | Metric | CheckpointWritten | ImageWritten | Warned | Resolved,
    Field(discriminator="type"),
]
event_adapter: TypeAdapter[Event] = TypeAdapter(Event)

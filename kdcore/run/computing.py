"""How a run computes: settled before the preflight, told once it is known to work."""

from collections.abc import Sequence

import torch

from kdcore.distill.teachers import Teacher
from kdcore.models.network import SegmentationModel
from kdcore.spec.train import TrainSpec
from kdcore.train.computing import LAYOUTS, memory_format_of, resolve


def settle(
    spec: TrainSpec, model: SegmentationModel, teachers: Sequence[Teacher], *, device: torch.device
) -> TrainSpec:
    """Lay out all networks in memory; returns ``spec`` without an `auto` that the device decides."""
    for teacher in teachers:
        teacher.model.lay_out(LAYOUTS[memory_format_of(spec, teacher.model, device)])
    settled = resolve(spec, model, device)
    model.lay_out(LAYOUTS[settled.memory_format])
    return settled


def choices(spec: TrainSpec, teachers: Sequence[Teacher], *, compiled: bool) -> dict[str, str]:
    """What was settled, by field, for the run's events."""
    names = {layout: name for name, layout in LAYOUTS.items()}
    return {
        "train.precision": spec.precision,
        "train.memory_format": spec.memory_format,
        "train.compile": "on" if compiled else "off",
        **{
            f"teachers.{teacher.name}.memory_format": names[teacher.model.memory_format]
            for teacher in teachers
        },
    }

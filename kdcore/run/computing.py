"""How a run computes: settled before the preflight, told once it is known to work."""

from collections.abc import Sequence

import torch

from kdcore.distill.teachers import Teacher
from kdcore.models.network import SegmentationModel
from kdcore.spec.train import TrainSpec
from kdcore.train.computing import LAYOUTS, memory_format_of, precision_of, resolve


def settle(
    spec: TrainSpec, model: SegmentationModel, teachers: Sequence[Teacher], *, device: torch.device
) -> TrainSpec:
    """Settle how all networks compute; returns ``spec`` without an `auto` that the device decides."""
    for teacher in teachers:
        teacher.model.lay_out(LAYOUTS[memory_format_of(spec, teacher.model)])
        teacher.model.in_bf16 = precision_of(spec, teacher.model, device) == "bf16"
    settled = resolve(spec, model, device)
    model.lay_out(LAYOUTS[settled.memory_format])
    return settled


def choices(spec: TrainSpec, teachers: Sequence[Teacher], *, compiled: bool) -> dict[str, str]:
    """What was settled, by field, for the run's events."""
    names = {layout: name for name, layout in LAYOUTS.items()}
    found = {
        "train.precision": spec.precision,
        "train.memory_format": spec.memory_format,
        "train.compile": "on" if compiled else "off",
    }
    for teacher in teachers:
        field = f"teachers.{teacher.name}"
        half = teacher.model.in_bf16 or spec.precision == "bf16"
        found[f"{field}.precision"] = "bf16" if half else "fp32"
        found[f"{field}.memory_format"] = names[teacher.model.memory_format]
    return found

"""Frozen teachers: loaded from model folders, never trained, never part of a checkpoint."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from kdcore.models.network import SegmentationModel, tapped
from kdcore.models.store import ModelCard, load_model
from kdcore.spec.job import TeacherInput


@dataclass(frozen=True)
class Teacher:
    name: str
    weight: float
    model: SegmentationModel
    card: ModelCard


@dataclass(frozen=True)
class TeacherOutput:
    """Logits (N, C, h, w) and features by stage, (N, c, h, w), without a graph."""

    logits_NCHW: Tensor
    features: dict[str, Tensor]


def load_teachers(
    run: Path, inputs: Sequence[TeacherInput], *, device: torch.device
) -> list[Teacher]:
    """Raises: SpecError, naming the teacher's field, when its folder holds no usable model."""
    teachers = []
    for index, item in enumerate(inputs):
        model, card = load_model(run / item.path, field=f"teachers.{index}.model")
        model.to(device).requires_grad_(False).eval()
        teachers.append(Teacher(item.name, item.weight, model, card))
    return teachers


def ask(teacher: Teacher, images_NCHW: Tensor) -> TeacherOutput:
    """One forward pass; the teacher's buffers are the same afterwards."""
    teacher.model.eval()
    with torch.no_grad(), tapped(teacher.model) as features:
        logits_NCHW = teacher.model(images_NCHW)
    return TeacherOutput(logits_NCHW, features.stages)

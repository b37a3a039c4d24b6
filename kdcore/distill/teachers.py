"""Frozen teachers: loaded from model folders, never trained, never part of a checkpoint."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from kdcore.distill.class_map import with_classes
from kdcore.errors import PreflightFailed
from kdcore.models.frozen import freeze
from kdcore.models.network import SegmentationModel, tapped
from kdcore.models.store import ModelCard, load_model
from kdcore.spec.class_map import ClassesDiffer, Sources, known_classes, map_classes
from kdcore.spec.dataset import ClassEntry
from kdcore.spec.job import TeacherInput


@dataclass(frozen=True)
class Teacher:
    """``model`` answers in the dataset's classes; ``sources`` says how they come from the card's.

    None: they are the same in the same order.
    """

    name: str
    weight: float
    model: SegmentationModel
    card: ModelCard
    sources: Sources | None = None

    @property
    def known(self) -> tuple[int, ...]:
        """Ids of the dataset's classes that the teacher knows."""
        every = tuple(range(self.model.classes))
        return every if self.sources is None else known_classes(self.sources)


@dataclass(frozen=True)
class TeacherOutput:
    """Logits (N, C, h, w) and features by stage, (N, c, h, w), without a graph."""

    logits_NCHW: Tensor
    features: dict[str, Tensor]


def load_teachers(
    run: Path,
    inputs: Sequence[TeacherInput],
    classes: Sequence[ClassEntry],
    *,
    device: torch.device,
) -> list[Teacher]:
    """Raises: SpecError, naming the teacher's field, when its folder holds no usable model;
    PreflightFailed, when its classes are not those of the dataset and nothing says how they are.
    """
    teachers = []
    for index, item in enumerate(inputs):
        model, card = load_model(run / item.path, field=f"teachers.{index}.model")
        sources = _sources(item, card, classes, field=f"teachers.{index}.classes")
        model = with_classes(freeze(model), sources).to(device)
        teachers.append(Teacher(item.name, item.weight, model, card, sources))
    return teachers


def ask(teacher: Teacher, images_NCHW: Tensor) -> TeacherOutput:
    """One forward pass; the teacher's buffers are the same afterwards.

    Not under `inference_mode`: losses keep what it returns for their backward pass, which torch
    refuses for its tensors.

    The logits are contiguous: sums over them must not depend on how a network laid them out.
    """
    teacher.model.eval()
    with torch.no_grad(), teacher.model.autocast(), tapped(teacher.model) as features:
        logits_NCHW = teacher.model(images_NCHW)
    return TeacherOutput(logits_NCHW.contiguous(), features.stages)


def joined(pieces: Sequence[TeacherOutput]) -> TeacherOutput:
    """Answers for parts of a batch, in order, as one for the whole."""
    if len(pieces) == 1:
        return pieces[0]
    return TeacherOutput(
        torch.cat([piece.logits_NCHW for piece in pieces]),
        {
            name: torch.cat([piece.features[name] for piece in pieces])
            for name in pieces[0].features
        },
    )


def _sources(
    item: TeacherInput, card: ModelCard, classes: Sequence[ClassEntry], *, field: str
) -> Sources:
    names = [[entry.name for entry in entries] for entries in (card.classes, classes)]
    try:
        return map_classes(names[0], names[1], item.classes)
    except ClassesDiffer as error:
        raise PreflightFailed(
            f"teacher {item.name}: {error.message}",
            field=field if error.at is None else f"{field}.{error.at}",
            remedy=error.remedy,
        ) from error

"""Teachers: what they know of the dataset's classes, and how well. That they fit at all,
`kdcore.distill.teachers.load_teachers` has checked."""

from collections.abc import Callable, Sequence

import torch

from kdcore.data.samples import Samples
from kdcore.distill.teachers import Teacher
from kdcore.errors import PreflightFailed
from kdcore.report.scores import score
from kdcore.run.preflight.parts import Warn
from kdcore.spec.class_map import left_out
from kdcore.train.evaluate import evaluate


def tell_classes(teachers: Sequence[Teacher], names: Sequence[str], *, warn: Warn) -> None:
    """What a class map leaves out, on either side."""
    for teacher in teachers:
        own = [entry.name for entry in teacher.card.classes]
        unknown = [name for index, name in enumerate(names) if index not in teacher.known]
        if unknown:
            warn(
                "unknown_classes",
                f"teacher {teacher.name} does not know {', '.join(unknown)}: it teaches the other "
                "classes, and not where the label is one of these",
            )
        if teacher.sources is not None and (extra := left_out(teacher.sources, own)):
            warn(
                "classes_left_out",
                f"{', '.join(extra)} of teacher {teacher.name} stand for no class of the dataset: "
                "their share is spread over the others",
            )


def check_teacher_quality(
    teachers: Sequence[Teacher],
    val: Samples,
    *,
    floor: float,
    device: torch.device,
    between: Callable[[], None],
) -> None:
    """Each teacher reaches ``floor`` (mIoU) on val, on the classes it knows. Raises: PreflightFailed."""
    for index, teacher in enumerate(teachers if floor > 0 else ()):
        counts = evaluate(teacher.model, val, device=device, between=between).sum(0)
        known = list(teacher.known)
        counts[[row for row in range(len(counts)) if row not in known]] = 0
        if not counts.any():
            raise PreflightFailed(
                f"no pixel of val is of a class that teacher {teacher.name} knows",
                field=f"teachers.{index}.classes",
            )
        miou = score(counts).miou
        if miou < floor:
            raise PreflightFailed(
                f"teacher {teacher.name} reaches {miou:.3f} mIoU on val; {floor:.3f} is asked for",
                field="preflight.min_teacher_miou",
                remedy="train the teacher longer, or lower the floor if it is meant to be this weak",
            )

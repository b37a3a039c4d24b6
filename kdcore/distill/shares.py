"""How much each teacher of an ensemble weighs."""

from collections.abc import Sequence

from kdcore.distill.class_map import Group
from kdcore.distill.teachers import Teacher
from kdcore.errors import SpecError
from kdcore.spec.objective import Ensemble

Shares = list[float] | list[list[float]]


def shares(spec: Ensemble, teachers: Sequence[Teacher]) -> Shares:
    """(K,) the teachers' weights, or (K, C) these times the IoU on val of each class."""
    if spec.kind != "class_iou" or len(teachers) < 2:
        return [teacher.weight for teacher in teachers]
    found = []
    for index, teacher in enumerate(teachers):
        metrics = teacher.card.metrics
        own = [metrics.get(f"val/iou/{entry.name}") for entry in teacher.card.classes]
        if all(iou is None for iou in own):
            raise SpecError(
                f"teacher {teacher.name} tells no IoU of its classes on val",
                field=f"teachers.{index}.model",
                remedy="a teacher trained here, or another `ensemble.kind`",
            )
        sources = teacher.sources or [(index,) for index in range(len(own))]
        # Of a class that several make up, the mean of theirs: it only says whom to trust more.
        iou = [sum(own[part] or 0.0 for part in parts) / max(1, len(parts)) for parts in sources]
        found.append([teacher.weight * each for each in iou])
    return found


def of_group(given: Shares, group: Group) -> Shares:
    """Those of the group's teachers and, where they are per class, of the classes that these know."""
    fixed: list[float] = []
    per_class: list[list[float]] = []
    for share in (given[index] for index in group.teachers):
        if isinstance(share, list):
            per_class.append([share[known] for known in group.known])
        else:
            fixed.append(share)
    return per_class or fixed

"""Which stages of student and teacher belong together, and how wide they are."""

from collections.abc import Mapping, Sequence

import torch

from kdcore.errors import SpecError
from kdcore.models.network import SegmentationModel, tapped
from kdcore.spec.objective import Heads, Taps

_SMALLEST_TAP = 4
_PROBE = 64

Stages = Mapping[int, int]
"""Channels by stride."""


@torch.no_grad()
def stages_of(model: SegmentationModel) -> dict[int, int]:
    """Channels of the encoder's stages by stride, found with one small image."""
    was_training = model.training
    model.eval()
    with tapped(model) as features:
        model(torch.zeros(1, 3, _PROBE, _PROBE, device=model.mean.device))
    model.train(was_training)
    return {stride: int(feature.shape[1]) for stride, feature in features.by_stride.items()}


def pair_stages(
    taps: Taps, offered: tuple[Stages, Stages], *, field: str, teacher: str
) -> list[tuple[int, int]]:
    """The (student, teacher) strides to compare. Raises: SpecError."""
    if taps == "auto":
        common = sorted(s for s in offered[0].keys() & offered[1].keys() if s >= _SMALLEST_TAP)
        if not common:
            raise SpecError(f"no stage of equal stride in student and {teacher}", field=field)
        return [(stride, stride) for stride in common]
    return [
        (_stride(student, offered[0], field), _stride(of_teacher, offered[1], field))
        for student, of_teacher in taps
    ]


def head_stages(heads: Heads, offered: Stages, *, field: str) -> Sequence[int]:
    """The student's strides that get a head. Raises: SpecError."""
    if heads == "auto":
        return sorted(stride for stride in offered if stride >= _SMALLEST_TAP)
    return [_stride(name, offered, field) for name in heads]


def _stride(name: str, offered: Stages, field: str) -> int:
    stride = int(name[6:]) if name.startswith("stride") and name[6:].isdigit() else -1
    if stride not in offered:
        known = ", ".join(f"stride{stage}" for stage in sorted(offered))
        raise SpecError(f"no stage named {name}", field=field, remedy=known)
    return stride

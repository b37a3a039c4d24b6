"""Which stages of student and teacher belong together, and how wide they are."""

from collections.abc import Iterable, Mapping, Sequence

import torch

from kdcore.errors import SpecError
from kdcore.models.network import PROBE_SIDES, STRIDE, SegmentationModel, tapped
from kdcore.spec.objective import Heads, Taps

_SMALLEST_TAP = 4

Stages = Mapping[str, int]
"""Channels by stage, each under its own name (`layer2`) or its stride (`stride8`)."""
Tap = tuple[str, str]
"""A stage of the student and one of the teacher."""


def stages_of(model: SegmentationModel) -> dict[str, int]:
    """Channels of the encoder's stages, found with one small image. Raises: SpecError."""
    problem: Exception | None = None
    for side in PROBE_SIDES:
        try:
            return _channels(model, side)
        except (RuntimeError, ValueError, AssertionError) as error:
            problem = error
    raise SpecError(
        f"{model.spec.arch} with {model.spec.encoder} takes no images of {PROBE_SIDES} pixels: {problem}",
        remedy="terms without features and heads, or another encoder",
    )


@torch.no_grad()
def _channels(model: SegmentationModel, side: int) -> dict[str, int]:
    was_training = model.training
    model.eval()
    try:
        with tapped(model) as features:
            model(torch.zeros(1, 3, side, side, device=model.mean.device))
    finally:
        model.train(was_training)
    return {stage: int(feature.shape[1]) for stage, feature in features.stages.items()}


def pair_stages(
    taps: Taps, offered: tuple[Stages, Stages], *, field: str, teacher: str
) -> Sequence[Tap]:
    """The stages to compare; `auto`: those of equal stride. Raises: SpecError."""
    if taps == "auto":
        common = [stage for stage in _strides(offered[0]) if stage in offered[1]]
        if not common:
            raise SpecError(f"no stage of equal stride in student and {teacher}", field=field)
        return [(stage, stage) for stage in common]
    for tap in taps:
        for name, stages in zip(tap, offered, strict=True):
            _check(name, stages, field)
    return taps


def head_stages(heads: Heads, offered: Stages, *, field: str) -> Sequence[str]:
    """The student's stages that get a head; `auto`: one of each stride. Raises: SpecError."""
    if heads == "auto":
        return _strides(offered)
    for name in heads:
        _check(name, offered, field)
    return heads


def _strides(stages: Iterable[str]) -> list[str]:
    """`stride4`, `stride8`, ... in this order."""
    strides = [int(name.removeprefix(STRIDE)) for name in stages if name.startswith(STRIDE)]
    return [f"{STRIDE}{stride}" for stride in sorted(strides) if stride >= _SMALLEST_TAP]


def _check(name: str, offered: Stages, field: str) -> None:
    if name not in offered:
        raise SpecError(f"no stage named {name}", field=field, remedy=", ".join(offered))

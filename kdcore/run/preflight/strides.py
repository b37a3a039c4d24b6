"""Whether images and feature maps have sizes that the networks can take and compare."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import torch

from kdcore.data.samples import Samples
from kdcore.distill.taps import Tap
from kdcore.distill.teachers import Teacher
from kdcore.errors import PreflightFailed
from kdcore.models.network import STRIDE, STRIDE_MAX, SegmentationModel, tapped
from kdcore.run.preflight.parts import Named, Warn

Size = tuple[int, int]
"""Height, width in pixels."""
Fits = Callable[[Size], bool]

_ANY_MULTIPLE: Size = (3 * STRIDE_MAX, 3 * STRIDE_MAX)
"""Of 32, but of no 64 and no 7 or 14: who takes it takes what every image is padded to."""
_STEPS = (32, 64, 128, 224, 256, 384, 512)
"""What sizes may have to be a multiple of; 224 covers patches of 14 and windows of 7."""


def tell_padding(size: Size, *, warn: Warn) -> None:
    """Crops are padded to multiples of 32: work without use."""
    padded = _padded(size)
    if padded != size:
        more = padded[0] * padded[1] / (size[0] * size[1]) - 1
        near = " or ".join(str(list(each)) for each in _around(size, STRIDE_MAX))
        warn(
            "padded_crop",
            f"train.size: crops of {size[0]}x{size[1]} are padded to multiples of {STRIDE_MAX}, "
            f"{more:.0%} more pixels; {near} fits",
        )


def check_size(named: Named, size: Size) -> None:
    """The network takes crops of ``size``. Raises: PreflightFailed, with the nearest that fit."""
    problem = _problem(named.model, _padded(size))
    if problem is None:
        return
    fitting = _nearest_fitting(lambda each: _problem(named.model, each) is None, size)
    raise PreflightFailed(
        f"{named.name} takes no images of {size[0]}x{size[1]}: {problem}",
        field="train.size",
        remedy=_listed(fitting) or "an encoder that takes images of this size",
    )


def check_images(named: Named, val: Samples) -> None:
    """The network takes the images of val, which are evaluated whole. Raises: PreflightFailed."""
    if _problem(named.model, _ANY_MULTIPLE) is None:
        return
    first = {_padded((entry.height, entry.width)): entry for entry in reversed(val.entries)}
    for padded, entry in first.items():
        problem = _problem(named.model, padded)
        if problem is not None:
            raise PreflightFailed(
                f"{named.name} cannot be evaluated on {entry.id}, {entry.height}x{entry.width}: "
                f"{problem}",
                field=named.field,
                remedy="an encoder that takes images of every size",
            )


def check_grids(
    taps: Sequence[tuple[str, int, Tap]],
    student: SegmentationModel,
    teachers: Sequence[Teacher],
    size: Size,
    *,
    warn: Warn,
) -> None:
    """Stages that are compared have grids that lie over each other at crops of ``size``.

    ``taps``: (kind of term, teacher, stages). Of equal stride they must be equal, and a stage found
    with a small image may have another stride with a crop. Raises: PreflightFailed. Others, which
    somebody has chosen, are warned of where the finer one is no multiple of the coarser.
    """
    if not taps:
        return
    own = grids_of(student, size)
    theirs = [grids_of(teacher.model, size) for teacher in teachers]
    for kind, which, tap in taps:
        mine, other = own.get(tap[0]), theirs[which].get(tap[1])
        text = f"{kind}: {tap[0]} ({_by(mine)}) and {tap[1]} ({_by(other)})"
        text = f"{text} of teacher {teachers[which].name} at crops of {_by(size)}"
        if mine is None or other is None or not _match(tap, mine, other):
            fits = partial(_would_match, tap, student, teachers[which].model)
            raise PreflightFailed(
                f"{text} cannot be compared",
                field="train.size",
                remedy=_listed(_nearest_fitting(fits, size)) or "other `taps`",
            )
        if any(max(sides) % min(sides) for sides in zip(mine, other, strict=True)):
            warn("uneven_taps", f"{text} do not lie over each other; the finer is interpolated")


@torch.no_grad()
def grids_of(model: SegmentationModel, size: Size) -> dict[str, Size]:
    """Height and width of each stage's map at images of ``size``."""
    was_training = model.training
    model.eval()
    try:
        with tapped(model) as features:
            model(torch.zeros(1, 3, *size, device=model.mean.device))
    finally:
        model.train(was_training)
    return {name: (int(f.shape[-2]), int(f.shape[-1])) for name, f in features.stages.items()}


def _problem(model: SegmentationModel, size: Size) -> str | None:
    """Why the network does not take an image of ``size``."""
    try:
        grids_of(model, size)
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, ValueError, AssertionError, IndexError) as error:
        return str(error)[:300]
    return None


def _match(tap: Tap, mine: Size | None, theirs: Size | None) -> bool:
    by_stride = tap[0] == tap[1] and tap[0].startswith(STRIDE)
    return mine is not None and theirs is not None and (mine == theirs or not by_stride)


def _would_match(
    tap: Tap, student: SegmentationModel, teacher: SegmentationModel, size: Size
) -> bool:
    if _problem(student, size) or _problem(teacher, size):
        return False
    return _match(tap, grids_of(student, size).get(tap[0]), grids_of(teacher, size).get(tap[1]))


def _nearest_fitting(fits: Fits, size: Size) -> list[Size]:
    """One or two sizes around ``size`` that fit, by the smallest step that has any."""
    for step in _STEPS:
        if found := [each for each in _around(size, step) if fits(each)]:
            return found
    return []


def _around(size: Size, step: int) -> Iterator[Size]:
    down = tuple(max(step, side // step * step) for side in size)
    up = tuple(-(-side // step) * step for side in size)
    for each in dict.fromkeys((down, up)):
        yield each[0], each[1]


def _padded(size: Size) -> Size:
    return -(-size[0] // STRIDE_MAX) * STRIDE_MAX, -(-size[1] // STRIDE_MAX) * STRIDE_MAX


def _listed(sizes: Sequence[Size]) -> str:
    return " or ".join(f"[{height}, {width}]" for height, width in sizes)


def _by(size: Size | None) -> str:
    return "absent" if size is None else f"{size[0]}x{size[1]}"

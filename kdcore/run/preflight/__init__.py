"""What is checked before the first real step: cheap, and each finding names the field to mend.

The findings are listed in `docs/preflight.md`.
"""

from collections.abc import Callable

from kdcore.run.preflight.compiling import compile_networks
from kdcore.run.preflight.data import check_ignored, check_pool, tell_absent_classes
from kdcore.run.preflight.first_batch import check_first_batch
from kdcore.run.preflight.free_memory import free_bytes
from kdcore.run.preflight.memory import MemoryEstimate, exhausted
from kdcore.run.preflight.parts import Parts, Tell, Warn
from kdcore.run.preflight.space import check_space
from kdcore.run.preflight.strides import check_grids, check_images, check_size, tell_padding
from kdcore.run.preflight.teachers import check_teacher_quality, tell_classes

__all__ = ["MemoryEstimate", "Parts", "check", "compile_networks", "exhausted"]


def check(parts: Parts, *, warn: Warn, tell: Tell, between: Callable[[], None]) -> MemoryEstimate:
    """Everything, the cheapest first; weights, buffers and random numbers are as before.

    ``warn`` gets what is no reason to stop, ``tell`` the estimate of memory, which is also returned.
    ``between`` is called between images. Raises: PreflightFailed, DiskFull, OutOfMemory.
    """
    statistics, size = parts.manifest.statistics["train"], parts.job.train.size
    names = [entry.name for entry in parts.manifest.classes]
    check_space(parts.run, parts.model)
    check_pool(parts.job, parts.manifest)
    check_ignored(statistics, most=parts.job.preflight.max_ignored, warn=warn)
    tell_absent_classes(statistics, names, warn=warn)
    tell_classes(parts.teachers, names, warn=warn)
    tell_padding(size, warn=warn)
    for model in parts.models():
        check_size(model, size)
        check_images(model, parts.val)
    check_grids(parts.objective.taps(), parts.model, parts.teachers, size, warn=warn)
    check_teacher_quality(
        parts.teachers, parts.val,
        floor=parts.job.preflight.min_teacher_miou, device=parts.device, between=between,
    )  # fmt: skip
    return check_first_batch(parts, free=free_bytes(parts.device), tell=tell)

"""Everything that a training is put together from, to be looked at before it begins."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from kdcore.data.samples import Samples
from kdcore.distill.objective import Objective
from kdcore.distill.teachers import Teacher
from kdcore.models.network import SegmentationModel
from kdcore.spec.dataset import DatasetManifest
from kdcore.spec.job import FitJob

Warn = Callable[[str, str], None]
"""(code, message), as `kdcore.train.trainer.Watcher.warned`."""
Tell = Callable[[Mapping[str, float]], None]


@dataclass(frozen=True)
class Named:
    """A network, what to call it, and its spec field."""

    name: str
    field: str
    model: SegmentationModel


@dataclass(frozen=True)
class Parts:
    """``pool`` is None where no images without masks are asked for."""

    run: Path
    job: FitJob
    manifest: DatasetManifest
    model: SegmentationModel
    objective: Objective
    teachers: Sequence[Teacher]
    train: Samples
    val: Samples
    pool: Samples | None
    device: torch.device

    def models(self) -> Iterator[Named]:
        """The network in training first, then the teachers."""
        yield Named("the network", "model", self.model)
        for index, teacher in enumerate(self.teachers):
            yield Named(f"teacher {teacher.name}", f"teachers.{index}.model", teacher.model)

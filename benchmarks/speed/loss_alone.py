"""Forward and backward of the losses alone, on given logits: the plain ones and kdcore's."""

from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

import torch
from torch import Tensor, nn

from benchmarks.speed.arms.ours import fit_job
from benchmarks.speed.arms.plain_loss import plain_loss
from benchmarks.speed.device import meter
from benchmarks.speed.scene import Scene
from kdcore.data.batches import Batch
from kdcore.distill.objective import Objective
from kdcore.distill.teachers import Teacher
from kdcore.models.network import SegmentationModel
from kdcore.models.store import read_card
from kdcore.spec.rundir import MODEL_INPUTS

_WARM_UP, _STEPS, _CYCLES = 2, 5, 3


@dataclass(frozen=True)
class LossAlone:
    """Median seconds of a batch."""

    plain: float
    ours: float


class _Given(nn.Module):
    """Answers with its parameter, whatever the image."""

    def __init__(self, logits_NCHW: Tensor) -> None:
        super().__init__()
        self.logits_NCHW = nn.Parameter(logits_NCHW)
        self.encoder = nn.Identity()

    def forward(self, _: Tensor) -> Tensor:
        return self.logits_NCHW


def time_losses(scene: Scene, device: torch.device, threads: int) -> LossAlone:
    """Of the first teacher's and the student's logits on their grid, bf16 on a GPU; ABBA × 3."""
    torch.set_num_threads(threads)
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    plain, ours = _losses(scene, device, dtype)
    for _ in range(_WARM_UP):
        plain()
        ours()
    seconds: dict[str, list[float]] = {"plain": [], "ours": []}
    for _ in range(_CYCLES):
        for name, loss in (("plain", plain), ("ours", ours), ("ours", ours), ("plain", plain)):
            seconds[name] += _seconds(loss, device)
    return LossAlone(median(seconds["plain"]), median(seconds["ours"]))


def _losses(
    scene: Scene, device: torch.device, dtype: torch.dtype
) -> tuple[Callable[[], None], Callable[[], None]]:
    workload = scene.workload
    batch = next(scene.batches(1)).to(device)
    name = next(iter(workload.teachers))
    student = _given(scene.student(), batch, device, dtype)
    teacher = _given(scene.teacher(name), batch, device, dtype)
    job = fit_job(scene, cached=False)
    card = read_card(scene.root / MODEL_INPUTS / name)
    objective = Objective(
        job.objective, student, [Teacher(name, 1.0, teacher, card)],
        ensemble_spec=job.ensemble,
        steps=job.train.steps,
        class_pixels=scene.manifest.statistics["train"].class_pixels,
    ).to(device)  # fmt: skip

    def plain() -> None:
        terms = plain_loss(
            student(batch.images_NCHW), teacher(batch.images_NCHW).detach(),
            batch.labels_NHW, workload,
        )  # fmt: skip
        terms.total.backward()  # type: ignore[no-untyped-call]

    def ours() -> None:
        objective(student, batch, 0).loss.backward()

    return plain, ours


@torch.no_grad()
def _given(
    model: SegmentationModel, batch: Batch, device: torch.device, dtype: torch.dtype
) -> SegmentationModel:
    logits_NCHW = model.eval().to(device)(batch.images_NCHW).to(dtype)
    return SegmentationModel(_Given(logits_NCHW), model.spec, model.classes).to(device).train()


def _seconds(loss: Callable[[], None], device: torch.device) -> list[float]:
    clock = meter(device)
    clock.mark()
    for _ in range(_STEPS):
        loss()
        clock.mark()
    return clock.seconds()

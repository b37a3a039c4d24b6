"""Cross entropy and distillation as plain loops write them, with tensors of the labels' size."""

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from benchmarks.speed.arms.published import at_size
from benchmarks.speed.workload import Workload
from kdcore.spec.dataset import IGNORE

_LOWEST = 1e-8


@dataclass(frozen=True)
class Terms:
    """``total`` = ``ce`` + weight · ``kd``."""

    ce: Tensor
    kd: Tensor
    total: Tensor


def plain_loss(
    student_NCHW: Tensor, teacher_NCHW: Tensor, labels_NHW: Tensor, workload: Workload
) -> Terms:
    """Logits of any grid; ignored pixels count in neither term."""
    size = tuple(labels_NHW.shape[-2:])
    full_NCHW = at_size(student_NCHW.float(), size)
    ce = F.cross_entropy(full_NCHW, labels_NHW, ignore_index=IGNORE)
    if workload.kl_grid == "labels":
        student_NCHW, teacher_NCHW = full_NCHW, at_size(teacher_NCHW.float(), size)
    kd = _kd(student_NCHW.float(), teacher_NCHW.float(), labels_NHW, workload.temperature)
    return Terms(ce, kd, ce + workload.kd_weight * kd)


def _kd(
    student_NCHW: Tensor, teacher_NCHW: Tensor, labels_NHW: Tensor, temperature: float
) -> Tensor:
    size = tuple(student_NCHW.shape[-2:])
    if tuple(labels_NHW.shape[-2:]) != size:
        labels_NHW = F.interpolate(labels_NHW[:, None].float(), size, mode="nearest-exact")[:, 0]
    log_student_NCHW = F.log_softmax(student_NCHW / temperature, dim=1)
    teacher_NCHW = F.softmax(teacher_NCHW / temperature, dim=1).clamp(min=_LOWEST)
    kl_NHW = F.kl_div(log_student_NCHW, teacher_NCHW, reduction="none").sum(dim=1)
    return kl_NHW[labels_NHW != IGNORE].mean() * temperature**2

"""What is checked before the first real step: cheap, and each finding names the field to mend."""

import shutil
from collections.abc import Callable
from pathlib import Path

import torch

from kdcore.data.batches import batches
from kdcore.data.samples import Samples
from kdcore.distill.objective import Objective
from kdcore.distill.teachers import Teacher
from kdcore.errors import DiskFull, OutOfMemory, PreflightFailed
from kdcore.models.network import SegmentationModel
from kdcore.report.scores import score
from kdcore.spec.dataset import IGNORE, DatasetManifest
from kdcore.spec.job import FitJob
from kdcore.train.evaluate import evaluate

CHECKPOINT_COPIES = 12
"""Two checkpoints of weights, two moments, best and averaged weights, with room to write a third."""


def check_teachers(teachers: list[Teacher], manifest: DatasetManifest) -> None:
    """Teacher and dataset must mean the same classes by the same ids. Raises: PreflightFailed."""
    wanted = [entry.name for entry in manifest.classes]
    for index, teacher in enumerate(teachers):
        has = [entry.name for entry in teacher.card.classes]
        if has != wanted:
            raise PreflightFailed(
                f"teacher {teacher.name} knows the classes {', '.join(has)}; "
                f"the dataset has {', '.join(wanted)}",
                field=f"teachers.{index}.model",
                remedy="a teacher trained on these classes in this order",
            )


def check_teacher_quality(
    job: FitJob,
    teachers: list[Teacher],
    val: Samples,
    *,
    device: torch.device,
    between: Callable[[], None],
) -> None:
    """Each teacher reaches `preflight.min_teacher_miou` on val. Raises: PreflightFailed."""
    floor = job.preflight.min_teacher_miou
    for teacher in teachers if floor > 0 else ():
        miou = score(evaluate(teacher.model, val, device=device, between=between).sum(0)).miou
        if miou < floor:
            raise PreflightFailed(
                f"teacher {teacher.name} reaches {miou:.3f} mIoU on val; {floor:.3f} is asked for",
                field="preflight.min_teacher_miou",
                remedy="train the teacher longer, or lower the floor if it is meant to be this weak",
            )


def check_space(run: Path, model: SegmentationModel) -> None:
    """Room for the checkpoints that this run will write. Raises: DiskFull."""
    weights = sum(p.numel() * p.element_size() for p in model.parameters())
    needed, free = CHECKPOINT_COPIES * weights, shutil.disk_usage(run).free
    if free < needed:
        raise DiskFull(
            f"checkpoints need about {needed / 2**20:,.0f} MiB, {free / 2**20:,.0f} MiB are free",
            remedy="free disk space, then retry the job",
        )


def check_pool(job: FitJob, manifest: DatasetManifest) -> None:
    """Raises: PreflightFailed, when images without masks are asked for and there are none."""
    if job.unlabelled is not None and not manifest.unlabelled:
        raise PreflightFailed(
            "the dataset has no images without masks",
            field="unlabelled",
            remedy="register the dataset with `layout.unlabelled`, or leave `unlabelled` out",
        )


def check_first_batch(
    job: FitJob,
    model: SegmentationModel,
    objective: Objective,
    train: Samples,
    pool: Samples | None,
    *,
    device: torch.device,
) -> None:
    """One batch forward and backward through everything; weights, buffers, RNGs are as before.

    Raises: PreflightFailed, when nothing in the batch can be learned from, or a part does not fit.
    """
    share = job.unlabelled.share if job.unlabelled else 0.0
    batch = next(batches(train, pool, job.train, share=share, seed=job.seed, start=0)).to(device)
    if not bool((batch.labels_NHW[: batch.labelled] != IGNORE).any()):
        raise PreflightFailed(
            "every labelled pixel of the first batch is ignored",
            field="dataset",
            remedy="check `ignore_index` and the classes' raw ids",
        )
    before = {name: value.clone() for name, value in model.net.state_dict().items()}
    model.train()
    try:
        with torch.random.fork_rng():
            objective(model, batch, 0).loss.backward()
    except torch.OutOfMemoryError as error:
        raise OutOfMemory(
            f"the first batch does not fit: {error}",
            field="train.batch",
            remedy="a smaller batch or crop",
        ) from error
    except (RuntimeError, ValueError, IndexError) as error:
        raise PreflightFailed(
            f"the first batch does not go through: {str(error)[:500]}",
            field="train",
            remedy="another `train.size` or `train.batch` (batch norm needs 2 images)",
        ) from error
    finally:
        model.net.load_state_dict(before)
        model.zero_grad(set_to_none=True)
        objective.zero_grad(set_to_none=True)

"""Disk space."""

import shutil
from pathlib import Path

from kdcore.errors import DiskFull
from kdcore.models.network import SegmentationModel

CHECKPOINT_COPIES = 12
"""Two checkpoints of weights, two moments, best and averaged weights, with room to write a third."""


def check_space(run: Path, model: SegmentationModel) -> None:
    """Room for the checkpoints that this run will write. Raises: DiskFull."""
    weights = sum(p.numel() * p.element_size() for p in model.parameters())
    needed, free = CHECKPOINT_COPIES * weights, shutil.disk_usage(run).free
    if free < needed:
        raise DiskFull(
            f"checkpoints need about {needed / 2**20:,.0f} MiB, {free / 2**20:,.0f} MiB are free",
            remedy="free disk space, then retry the job",
        )

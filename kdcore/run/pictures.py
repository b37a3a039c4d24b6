"""The pictures of a comparison: the images that tell most, every role side by side."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from kdcore.data.samples import Samples
from kdcore.models.network import SegmentationModel
from kdcore.report.overlays import overlay_row, pick
from kdcore.report.palette import palette
from kdcore.report.render import Figure
from kdcore.report.scores import mean_iou
from kdcore.report.verdict import Measured
from kdcore.spec.dataset import DatasetManifest
from kdcore.spec.job import Contestant, Role
from kdcore.train.evaluate import predict

PANELS_MAX = 6
_STUDENTS: dict[Role, str] = {
    "baseline": "baseline",
    "distilled": "distilled",
    "distilled_without_pool": "distilled, no pool",
}


@dataclass(frozen=True)
class Entry:
    """A contestant, its network and what was measured of it."""

    contestant: Contestant
    model: SegmentationModel
    measured: Measured


def draw(
    entries: Sequence[Entry],
    manifest: DatasetManifest,
    samples: Samples,
    *,
    device: torch.device,
) -> list[Figure]:
    """Strips "image | truth | teacher | students" of the images where it matters most."""
    shown = _panels(entries)
    colours = palette(manifest.classes)
    before, after = _of_role(entries, "baseline"), _of_role(entries, "distilled")
    paired = bool(before and after)
    figures = []
    for chosen in pick(_summed(before or entries[:1]), _summed(after or entries[-1:])):
        image_CHW, mask_HW = samples[chosen.index]
        predictions = {
            title: predict(entry.model, image_CHW, device=device).cpu().numpy()
            for title, entry in shown.items()
        }
        scores = {
            title: mean_iou(entry.measured.scored[chosen.index])
            for title, entry in shown.items()
            if entry.measured.scored[chosen.index].any()
        }
        strip = overlay_row(
            image_CHW.permute(1, 2, 0).numpy(), mask_HW.numpy(), predictions, colours, scores=scores
        )
        name = samples.entries[chosen.index].id
        figures.append(Figure(strip, f"{name}: {chosen.reason}" if paired else name))
    return figures


def _panels(entries: Sequence[Entry]) -> dict[str, Entry]:
    """Title to model: all teachers and plain models, and of the students the first seed's."""
    shown: dict[str, Entry] = {}
    for entry in entries:
        role = entry.contestant.role
        if role in _STUDENTS:
            shown.setdefault(_STUDENTS[role], entry)
        elif len(_of_role(entries, role)) == 1:
            shown[role] = entry
        else:
            shown[entry.contestant.name] = entry
    others = [title for title in shown if title not in _STUDENTS.values()]
    surplus = others[PANELS_MAX - (len(shown) - len(others)) :]
    return {title: entry for title, entry in shown.items() if title not in surplus}


def _of_role(entries: Sequence[Entry], role: str) -> list[Entry]:
    return [entry for entry in entries if entry.contestant.role == role]


def _summed(entries: Sequence[Entry]) -> npt.NDArray[np.int64]:
    total: npt.NDArray[np.int64] = np.sum([entry.measured.confusions for entry in entries], axis=0)
    return total

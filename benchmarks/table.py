"""Markdown of a table of methods."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

import numpy as np

from benchmarks.contest import PLAIN
from kdcore.report.bootstrap import paired_delta
from kdcore.report.scores import Scores, score
from kdcore.train.evaluate import Confusions


@dataclass(frozen=True)
class Row:
    """``confusions``: one a seed, each (I, C, C) over the same images."""

    name: str
    teaches: bool
    confusions: Sequence[Confusions]

    @property
    def scores(self) -> list[Scores]:
        return [score(one.sum(0)) for one in self.confusions]


def to_markdown(
    rows: Sequence[Row], *, classes: Sequence[str], split: str, command: str, effort: str
) -> str:
    """mIoU in percent; Δ in points with its 95 % interval over images and seeds, against plain."""
    ordered = sorted(rows, key=lambda row: (not row.teaches, row.name != PLAIN))
    plain = next(row for row in rows if row.name == PLAIN)
    lines = [
        f"| method | {split} mIoU, mean ± std | each seed | Δ to plain, 95 % interval |",
        "|---|---|---|---|",
        *(_line(row, plain) for row in ordered),
        "",
        "IoU per class, mean over the seeds:",
        "",
        "| class | " + " | ".join(row.name for row in ordered) + " |",
        "|---" * (len(ordered) + 1) + "|",
        *(_class_line(index, name, ordered) for index, name in enumerate(classes)),
        "",
        f"    {command}",
        "",
        f"{effort}.",
    ]
    return "\n".join(lines) + "\n"


def _line(row: Row, plain: Row) -> str:
    mious = [100 * one.miou for one in row.scores]
    spread = f" ± {stdev(mious):.1f}" if len(mious) > 1 else ""
    each = ", ".join(f"{miou:.1f}" for miou in mious)
    return f"| {row.name} | {fmean(mious):.1f}{spread} | {each} | {_delta(row, plain)} |"


def _delta(row: Row, plain: Row) -> str:
    if row.teaches or row is plain:
        return ""
    miou = paired_delta(
        np.stack(plain.confusions), np.stack(row.confusions), rng=np.random.default_rng(0)
    ).miou
    if miou.low is None or miou.high is None:
        return f"{100 * miou.estimate:+.1f}"
    return f"{100 * miou.estimate:+.1f} ({100 * miou.low:+.1f} to {100 * miou.high:+.1f})"


def _class_line(index: int, name: str, rows: Sequence[Row]) -> str:
    cells = []
    for row in rows:
        found = [one.iou[index] for one in row.scores]
        present = [iou for iou in found if iou is not None]
        cells.append(f"{100 * fmean(present):.1f}" if present else "")
    return f"| {name} | " + " | ".join(cells) + " |"

"""The verdict (`report/verdict.json`) as a table on the terminal."""

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

CLASS_COLUMNS_MAX = 6
"""More do not fit beside the rest; the differences are shown for every class anyway."""


DIFFERENCES = {
    "delta": "Distilled minus baseline",
    "pool_delta": "Of it from images without masks",
}
ROLES = {"distilled_without_pool": "distilled, no pool"}


def print_verdict(verdict: Mapping[str, Any], console: Console) -> None:
    """Who was measured, what the teachers gave per class, and the sentence that says it."""
    console.print(_contestants(verdict))
    console.print()
    for key, difference in DIFFERENCES.items():
        if verdict.get(key):
            console.print(_gains(verdict[key], difference))
            console.print()
    console.print(Text(verdict["sentence"], style="bold"))
    recovered = verdict["gap_recovered"]
    if recovered is not None:
        console.print(f"Gap to the teacher recovered: {recovered:.0%}", highlight=False)
    for note in verdict.get("notes", ()):
        console.print(Text(f"Note: {note}"))


def _contestants(verdict: Mapping[str, Any]) -> Table:
    table = _table(f"On the {verdict['split']} split; baseline and distilled are one student")
    table.add_column("model")
    table.add_column("seed", justify="right")
    table.add_column("mIoU", justify="right")
    classes = verdict["classes"] if len(verdict["classes"]) <= CLASS_COLUMNS_MAX else ()
    for name in classes:
        table.add_column(name, justify="right")
    for heading in ("params", "GFLOPs", "ms"):
        table.add_column(heading, justify="right")
    for one in verdict["contestants"]:
        latency = one["latency_ms"]
        table.add_row(
            ROLES.get(one["role"], one["role"]),
            "" if one["seed"] is None else str(one["seed"]),
            _score(one["miou"]),
            *(_score(value) for value in one["iou"][: len(classes)]),
            f"{one['parameters'] / 1e6:.2f} M",
            "-" if one["flops"] is None else f"{one['flops'] / 1e9:.2f}",
            "-" if latency is None else f"{latency['p50']:.1f}",
        )
    return table


def _gains(delta: Mapping[str, Any], difference: str) -> Table:
    table = _table(f"{difference}, IoU points, {delta['confidence']:.0%} interval")
    table.add_column("class")
    table.add_column("difference", justify="right")
    table.add_column("from", justify="right")
    table.add_column("to", justify="right")
    table.add_row("mean", *(_points(value) for value in _interval(delta, "miou")), style="bold")
    for one in delta["per_class"]:
        table.add_row(one["class"], *(_points(value) for value in _interval(one, "delta")))
    return table


def _table(title: str) -> Table:
    return Table(
        title=title,
        title_justify="left",
        title_style="none",
        box=None,
        padding=(0, 2, 0, 0),
        header_style="underline",
        min_width=len(title),
    )


def _interval(row: Mapping[str, Any], key: str) -> tuple[float | None, float | None, float | None]:
    return row[key], row["low"], row["high"]


def _score(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _points(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:+.2f}"

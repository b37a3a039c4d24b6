"""The verdict in a terminal."""

from collections.abc import Sequence

from rich.console import Group
from rich.table import Table
from rich.text import Text

from kdcore.report import view
from kdcore.report.verdict import Verdict

_STYLES: dict[str, str] = {"better": "bold green", "worse": "bold red", "open": "bold"}


def to_text(verdict: Verdict) -> Group:
    """Sentence, table and notes, ready for ``rich.print``."""
    word, colon, rest = verdict.sentence.partition(": ")
    style = _STYLES.get(verdict.verdict or "", "bold")
    sentence = Text(word + colon, style=style if verdict.verdict else "").append(rest, style="")
    notes = [Text(f"- {note}", style="dim") for note in verdict.notes]
    return Group(sentence, Text(), to_tables(verdict), *notes)


def to_tables(verdict: Verdict) -> Group:
    """The scores, and below them the pool's part where it was measured."""
    pool = view.pool_effects(verdict)
    return Group(_scores(verdict), *([_pool(pool[1])] if pool else []))


def _scores(verdict: Verdict) -> Table:
    """IoU per class in percent, the mean last, with Δ and its interval where there is a pair."""
    columns = view.series(verdict)
    found = view.effects(verdict)
    effects = found[1] if found else ()
    table = Table(title=f"IoU in %, {verdict.split} split", title_justify="left", show_footer=True)
    table.add_column("Class", footer="mean")
    for column in columns:
        footer = view.hundredfold(column.miou)
        table.add_column(Text(column.label, overflow="fold"), justify="right", footer=footer)
    if effects:
        table.add_column("Δ points", justify="right", no_wrap=True, footer=_change(effects[0]))
        table.add_column("Interval", no_wrap=True, footer=effects[0].interval)
    for index, name in enumerate(verdict.classes):
        cells = [view.hundredfold(column.iou[index]) for column in columns]
        row: list[str | Text] = [Text(name), *cells]
        if effects:
            row += [_change(effects[index + 1]), effects[index + 1].interval]
        table.add_row(*row)
    return table


def _pool(effects: Sequence[view.Effect]) -> Table:
    """Δ per class between the distilled students with and without the pool, the mean last."""
    title = "Of it from images without masks, points of IoU"
    table = Table(title=title, title_justify="left", show_footer=True, min_width=len(title))
    mean, *classes = effects
    table.add_column("Class", footer="mean")
    table.add_column("Δ points", justify="right", no_wrap=True, footer=_change(mean))
    table.add_column("Interval", no_wrap=True, footer=mean.interval)
    for effect in classes:
        table.add_row(Text(effect.label), _change(effect), effect.interval)
    return table


def _change(effect: view.Effect) -> Text:
    return Text(effect.text, style=_STYLES[effect.tone])

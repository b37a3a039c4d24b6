"""The page, the Markdown and the terminal: whole, escaped, readable."""

import io
import re
from dataclasses import replace
from html.parser import HTMLParser
from importlib.resources import files

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from kdcore.report import view
from kdcore.report.render import Figure, to_html, to_markdown
from kdcore.report.terminal import to_text
from kdcore.report.verdict import Verdict, judge

from .worlds import measured, wobble

EVIL = ("<script>alert(1)</script>", 'a|b "c" & *d*', "[bold]boundary")


@pytest.fixture(scope="module")
def verdict() -> Verdict:
    contestants = [
        measured("teacher", 0.95, name="big"),
        *(measured("baseline", wobble(0.7, s), seed=s) for s in (0, 1)),
        *(measured("distilled", wobble(0.8, s), seed=s) for s in (0, 1)),
    ]
    return judge(contestants, classes=EVIL, split="test", rng=np.random.default_rng(0))


@pytest.fixture(scope="module")
def evaluation() -> Verdict:
    models = [measured("model", 0.5 + i / 20, name=f"models:/m{i}/1") for i in range(6)]
    return judge(models, classes=EVIL, split="val", rng=np.random.default_rng(0))


@pytest.fixture(scope="module")
def with_pool() -> Verdict:
    contestants = [
        measured("teacher", 0.95, name="big"),
        *(measured("baseline", wobble(0.7, s), seed=s) for s in (0, 1)),
        *(measured("distilled_without_pool", wobble(0.77, s), seed=s) for s in (0, 1)),
        *(measured("distilled", wobble(0.8, s), seed=s) for s in (0, 1)),
    ]
    return judge(contestants, classes=EVIL, split="test", rng=np.random.default_rng(0))


class _Balanced(HTMLParser):
    """Fails on a tag that is closed out of order."""

    VOID = frozenset({"meta", "img", "br", "rect", "line", "circle"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def _parsed(page: str) -> _Balanced:
    parser = _Balanced()
    parser.feed(page)
    assert parser.open == []
    return parser


def test_the_page_is_well_formed_and_escapes_names(verdict: Verdict) -> None:
    page = to_html(verdict, [_figure()], title="<b>demo</b>", palette=((1, 2, 3),) * 3)
    parser = _parsed(page)
    assert "script" not in parser.tags
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "<b>demo</b>" not in page
    assert "rgb(1 2 3)" in page


def test_the_page_needs_nothing_from_outside(verdict: Verdict) -> None:
    page = to_html(verdict, [_figure()])
    sources = re.findall(r'(?:src|href)="([^"]*)"|url\(([^)]*)\)', page)
    assert sources
    assert all(source.startswith("data:image/") for source, _ in sources)


def test_the_page_shows_the_interval_and_every_role(verdict: Verdict) -> None:
    page = to_html(verdict)
    assert verdict.delta is not None
    for role in ("teacher", "baseline", "distilled"):
        assert f'class="fill-{role}"' in page
    assert 'class="whisker better"' in page
    assert "cpu, 1 thread, torch, fp32, batch 1" in page


def test_the_pools_part_has_its_place_everywhere(verdict: Verdict, with_pool: Verdict) -> None:
    page, text = to_html(with_pool), to_markdown(with_pool)
    _parsed(page)
    assert "What the images without masks changed" in page
    assert 'class="fill-distilled-without-pool"' in page
    assert "<td>Distilled, no pool</td>" in page
    assert "The pool's part" in [tile.title for tile in view.tiles(with_pool)]
    assert "| Distilled, no pool |" in text
    assert with_pool.pool_delta is not None
    part = f"+{100 * with_pool.pool_delta.miou:.1f}"
    for shown in (page, text, _printed(with_pool)):
        assert part in shown
    for shown in (to_html(verdict), to_markdown(verdict), _printed(verdict)):
        assert "no pool" not in shown
        assert "images without masks" not in shown


def test_pages_without_a_pair(evaluation: Verdict) -> None:
    page = to_html(evaluation)
    _parsed(page)
    assert "What distillation changed" not in page
    assert len(view.series(evaluation)) == view.MODELS_MAX
    assert all(f"models:/m{i}/1" in page for i in range(6))


def test_markdown_tables_keep_their_columns(
    verdict: Verdict, evaluation: Verdict, with_pool: Verdict
) -> None:
    for text in (to_markdown(verdict), to_markdown(evaluation), to_markdown(with_pool)):
        assert "<script>" not in text
        for block in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
            widths = {len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}
            assert len(widths) == 1, block
        assert "\n\n\n" not in text


def test_means_leave_out_classes_that_have_no_score() -> None:
    counts = measured("model", 0.5, name="m").confusions.copy()
    counts[:, 2, :] = counts[:, :, 2] = 0
    assert view.mean_score((None, None)) is None
    verdict = judge(
        [replace(measured("model", 0.5, name="m"), confusions=counts)],
        classes=("a", "b", "c"), split="val", rng=np.random.default_rng(0),
    )  # fmt: skip
    (row,) = verdict.contestants
    assert row.recall[2] is None
    mean = 100 * sum(value for value in row.precision if value is not None) / 2
    table = to_markdown(verdict).split("## Scores per class")[1]
    assert f"**{mean:.1f}**" in next(line for line in table.splitlines() if "**mean**" in line)
    assert "| c | – | – | – | – |" in table
    assert f"<td>{mean:.1f}</td>" in to_html(verdict)


def test_the_terminal_shows_names_as_they_are(verdict: Verdict, evaluation: Verdict) -> None:
    shown = _printed(verdict) + _printed(evaluation)
    assert "[bold]boundary" in shown
    assert "Better: the distilled student" in shown
    assert "Interval" in shown


def test_positions_stay_on_the_track(verdict: Verdict) -> None:
    found = view.effects(verdict)
    assert found is not None
    axis, effects = found
    for effect in effects:
        assert effect.at is not None
        assert effect.low is not None
        assert effect.high is not None
        assert 0 <= effect.low <= effect.at <= effect.high <= 100
        assert effect.low > axis.zero
    assert (axis.zero, "0") in axis.ticks or (axis.zero, "0.0") in axis.ticks


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colours_meet_wcag_aa(scheme: str) -> None:
    css = (files("kdcore.report") / "templates" / "report.css").read_text()
    blocks = re.findall(r":root \{(.*?)\}", css, re.DOTALL)
    colours = dict(re.findall(r"--([\w-]+): (#\w{6})", blocks[0 if scheme == "light" else 1]))
    for ground in ("paper", "card"):
        for text in ("ink", "quiet", "better", "worse", "open"):
            assert _contrast(colours[text], colours[ground]) >= 4.5, (text, ground)
        marks = ("teacher", "baseline", "distilled", "distilled-without-pool")
        for mark in (*marks, "model-1", "model-2", "model-3"):
            assert _contrast(colours[mark], colours[ground]) >= 3, (mark, ground)


def _printed(verdict: Verdict) -> str:
    console = Console(width=160, record=True, file=io.StringIO())
    console.print(to_text(verdict))
    console.file.close()
    return console.export_text()


def _figure() -> Figure:
    return Figure(Image.new("RGB", (64, 32)), '"x".png, <i>helped</i> most')


def _contrast(one: str, other: str) -> float:
    def luminance(colour: str) -> float:
        channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)

"""The verdict as a page and as Markdown. Every name from outside is escaped."""

import base64
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass

from jinja2 import Environment, PackageLoader, StrictUndefined
from PIL import Image

from kdcore.report import view
from kdcore.report.verdict import Verdict
from kdcore.spec.dataset import Colour


@dataclass(frozen=True)
class Figure:
    """A picture of the page; the caption also stands for it where it cannot be seen."""

    image: Image.Image
    caption: str


def to_html(
    verdict: Verdict,
    images: Sequence[Figure] = (),
    *,
    title: str = "Verdict",
    palette: Sequence[Colour] = (),
) -> str:
    """One page that needs nothing else: styles and pictures are inside, and there is no script.

    ``palette``: class colours of the pictures, for their legend.
    """
    figures = [(_data_uri(figure.image), figure.image, figure.caption) for figure in images]
    legend = list(zip(verdict.classes, palette, strict=True)) if palette and images else []
    return _html.get_template("report.html.j2").render(
        _shown(verdict), title=title, figures=figures, legend=legend
    )


def to_markdown(verdict: Verdict, *, title: str = "Verdict") -> str:
    """The same without pictures, for a pull request or a model card."""
    return _markdown.get_template("report.md.j2").render(_shown(verdict), title=title)


def _shown(verdict: Verdict) -> dict[str, object]:
    word, colon, rest = verdict.sentence.replace(" %", "\N{NO-BREAK SPACE}%").partition(": ")
    headed = verdict.verdict is not None and colon != ""
    axis_and_effects, pool = view.effects(verdict), view.pool_effects(verdict)
    costs = view.costs(verdict)
    return {
        "verdict": verdict,
        "word": word if headed else None,
        "rest": _ASIDE.split(rest if headed else word + colon + rest, maxsplit=1),
        "tone": _TONES.get(verdict.verdict or "", "open"),
        "pairs": _pairs(verdict),
        "tiles": view.tiles(verdict),
        "series": view.series(verdict),
        "axis": axis_and_effects[0] if axis_and_effects else None,
        "effects": axis_and_effects[1] if axis_and_effects else (),
        "pool_axis": pool[0] if pool else None,
        "pool_effects": pool[1] if pool else (),
        "costs": costs,
        "conditions": sorted({cost.conditions for cost in costs if cost.conditions}),
    }


_ASIDE = re.compile(r"(\([^()]*\))")
"""The interval in parentheses, which the page prints more quietly."""

_TONES = {"better": "better", "worse": "worse"}


def _pairs(verdict: Verdict) -> int:
    seeds = {
        role: {row.seed for row in verdict.contestants if row.role == role}
        for role in ("baseline", "distilled")
    }
    return len(seeds["baseline"] & seeds["distilled"])


def _data_uri(image: Image.Image) -> str:
    buffer = io.BytesIO()
    image.save(buffer, format="WEBP", quality=88, method=4)
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _escape_markdown(text: object) -> str:
    """Class names and file names may hold anything: no markup, no table or line breaks."""
    flat = re.sub(r"\s+", " ", str(text))
    return re.sub(r"([\\`*_{}\[\]<>#|~&])", r"\\\1", flat)


def _environment(*, html: bool) -> Environment:
    environment = Environment(
        loader=PackageLoader("kdcore.report"),
        autoescape=html,  # noqa: S701 - Markdown has an escape of its own
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(
        percent=view.hundredfold,
        mean=view.mean_score,
        md=_escape_markdown,
        role=view.role_name,
    )
    return environment


_html = _environment(html=True)
_markdown = _environment(html=False)

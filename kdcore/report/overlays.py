"""What the numbers look like: image, truth and predictions in a row, and which images to show."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from kdcore.report.bootstrap import Counts
from kdcore.report.wording import points
from kdcore.spec.dataset import IGNORE, Colour

Pixels = NDArray[np.uint8]

PANEL_WIDTH = 320
"""Panels are scaled to this width in pixels, so that captions fit and files stay small."""

_ALPHA, _BACKGROUND_ALPHA = 0.72, 0.18
_GAP, _CAPTION, _FONT = 8, 34, 19
_INK, _PAPER, _QUIET = (240, 243, 247), (30, 34, 41), (178, 187, 199)
_HATCH, _HATCH_GROUND = (112, 118, 128), (170, 176, 184)


@dataclass(frozen=True)
class Pick:
    """An image worth looking at; ``gain`` is its own Δ mIoU."""

    index: int
    gain: float
    reason: str


def pick(baseline: Counts, distilled: Counts, *, each: int = 2) -> tuple[Pick, ...]:
    """Images where distillation helped most, hurt most, and the median ones, ``each`` of a kind.

    ``baseline`` and ``distilled``: (I, C, C) confusions per image, summed over seeds. No image
    comes twice; images without a scored pixel never come. "Hurt" is said of a loss only.
    """
    gains = _image_miou(distilled) - _image_miou(baseline)
    order = [int(index) for index in np.argsort(gains, kind="stable") if np.isfinite(gains[index])]
    each = min(each, -(-len(order) // 3))
    helped, hurt = order[::-1][:each], order[:each]
    between = order[each : len(order) - each] if len(order) > 2 * each else []
    first = max(0, (len(between) - each) // 2)
    groups = (
        (helped, "helped most"),
        (between[first : first + each], "median"),
        (hurt, "hurt most"),
    )
    picks: dict[int, Pick] = {}
    for indices, reason in groups:
        for index in indices:
            picks.setdefault(index, _picked(index, float(gains[index]), reason))
    return tuple(picks.values())


def overlay_row(
    image: Pixels,
    truth: Pixels,
    predictions: Mapping[str, Pixels],
    palette: Sequence[Colour],
    *,
    ignore: int = IGNORE,
    scores: Mapping[str, float] | None = None,
) -> Image.Image:
    """A strip ``image | truth | prediction …`` with a caption over every panel.

    ``image`` (H, W, 3) uint8; ``truth`` and predictions (H, W) uint8 class ids. Pixels ignored in
    the truth are hatched in every panel but the first: nothing there was scored. ``scores`` gives
    the mIoU to write beside a prediction's title.
    Raises: ValueError when the sizes differ.
    """
    for title, mask in {"truth": truth, **predictions}.items():
        if mask.shape != image.shape[:2]:
            raise ValueError(f"{title}: size {mask.shape}, but the image is {image.shape[:2]}")
    image, truth, shown = _enlarged(image, truth, predictions)
    ignored = truth == ignore
    colours = _lookup(palette)
    panels = [("image", Image.fromarray(image))]
    panels += [
        (title, Image.fromarray(_blend(image, mask, ignored, colours, len(palette))))
        for title, mask in {"truth": truth, **shown}.items()
    ]
    return _strip(panels, scores or {})


def _picked(index: int, gain: float, reason: str) -> Pick:
    if reason == "hurt most" and gain >= 0:
        reason = "helped least"
    elif reason == "helped most" and gain <= 0:
        reason = "hurt least"
    return Pick(index, gain, f"{reason}: {points(gain, signed=True)} mIoU points")


def _image_miou(confusions: Counts) -> NDArray[np.float64]:
    """(I,) mIoU of every image on its own; NaN without a scored pixel."""
    counts = np.asarray(confusions, dtype=np.float64)
    hits = np.diagonal(counts, axis1=1, axis2=2)
    union = counts.sum(axis=1) + counts.sum(axis=2) - hits
    present = (union > 0).sum(axis=1)
    total = (hits / np.maximum(union, 1)).sum(axis=1)
    return np.where(present > 0, total / np.maximum(present, 1), np.nan)


def _enlarged(
    image: Pixels, truth: Pixels, predictions: Mapping[str, Pixels]
) -> tuple[Pixels, Pixels, dict[str, Pixels]]:
    """At least `PANEL_WIDTH` wide before blending: smooth photographs, masks with crisp edges."""
    height, width = truth.shape
    if width >= PANEL_WIDTH:
        return image, truth, dict(predictions)
    size = PANEL_WIDTH, max(1, round(height * PANEL_WIDTH / width))

    def resized(pixels: Pixels, method: Image.Resampling) -> Pixels:
        return np.asarray(Image.fromarray(pixels).resize(size, method))

    nearest = Image.Resampling.NEAREST
    masks = {title: resized(mask, nearest) for title, mask in predictions.items()}
    return resized(image, Image.Resampling.BICUBIC), resized(truth, nearest), masks


def _lookup(palette: Sequence[Colour]) -> NDArray[np.float64]:
    """(256, 3); ids beyond the palette are drawn like ignored pixels by `_blend`."""
    table = np.zeros((256, 3))
    table[: len(palette)] = palette
    return table


def _blend(
    image: Pixels,
    mask: Pixels,
    ignored: NDArray[np.bool_],
    colours: NDArray[np.float64],
    classes: int,
) -> Pixels:
    alpha = np.where(mask == 0, _BACKGROUND_ALPHA, _ALPHA)[..., None]
    blended = (1 - alpha) * image + alpha * colours[mask]
    rows, columns = np.indices(mask.shape)
    period = max(6, mask.shape[1] // 32)
    stripes = ((rows + columns) % period < max(2, period // 4))[..., None]
    hatch = np.where(stripes, _HATCH, _HATCH_GROUND)
    hidden = (ignored | (mask >= classes))[..., None]
    return np.where(hidden, hatch, np.rint(blended)).astype(np.uint8)


def _strip(panels: Sequence[tuple[str, Image.Image]], scores: Mapping[str, float]) -> Image.Image:
    width = PANEL_WIDTH
    height = max(1, round(panels[0][1].height * width / panels[0][1].width))
    total = len(panels) * (width + _GAP) + _GAP, height + _CAPTION + _GAP
    strip = Image.new("RGB", total, color=_PAPER)
    draw = ImageDraw.Draw(strip)
    font = ImageFont.load_default(size=_FONT)
    for index, (title, panel) in enumerate(panels):
        left = _GAP + index * (width + _GAP)
        # Large panels were blended at full size: averaging keeps thin classes visible.
        strip.paste(panel.resize((width, height), Image.Resampling.BOX), (left, _CAPTION))
        score = f"{100 * scores[title]:.1f} %" if title in scores else ""
        room = width - (draw.textlength(score, font=font) + 12 if score else 0)
        draw.text((left, 5), _fit(draw, title, font, room), fill=_INK, font=font)
        if score:
            draw.text((left + width, 5), score, fill=_QUIET, font=font, anchor="ra")
    return strip


def _fit(
    draw: ImageDraw.ImageDraw,
    text: str,
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
    room: float,
) -> str:
    """``text``, shortened to ``room`` pixels."""
    if draw.textlength(text, font=font) <= room:
        return text
    while text and draw.textlength(text + "...", font=font) > room:
        text = text[:-1]
    return text + "..."

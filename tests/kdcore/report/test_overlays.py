"""Strips of panels, class colours, and the choice of images."""

import numpy as np
import pytest

from kdcore.report.overlays import PANEL_WIDTH, overlay_row, pick
from kdcore.report.palette import palette
from kdcore.spec.dataset import ClassEntry

from .worlds import confusions

COLOURS = ((0, 0, 0), (255, 0, 0), (0, 255, 0))


def _image(height: int = 40, width: int = 60) -> np.ndarray:
    return np.full((height, width, 3), 100, dtype=np.uint8)


def _mask(value: int, height: int = 40, width: int = 60) -> np.ndarray:
    return np.full((height, width), value, dtype=np.uint8)


@pytest.mark.parametrize("width", [60, 900])
def test_a_strip_has_a_panel_per_mask_and_the_class_colours(width: int) -> None:
    size = width, width
    image, truth, teacher = _image(*size), _mask(1, *size), _mask(2, *size)
    strip = overlay_row(image, truth, {"teacher": teacher}, COLOURS, scores={"teacher": 0.5})
    panels = [_middle(strip, index, of=3) for index in range(3)]
    assert panels[0] == (100, 100, 100)
    assert panels[1][0] > 180 > panels[1][1]
    assert panels[2][1] > 180 > panels[2][0]


def test_background_is_lighter_than_classes() -> None:
    strip = overlay_row(_image(), _mask(0), {"x": _mask(1)}, ((0, 0, 255), (0, 0, 255)))
    background, foreground = _middle(strip, 1, of=3), _middle(strip, 2, of=3)
    assert background[2] < foreground[2]


def test_ignored_pixels_are_grey_in_every_panel_but_the_image() -> None:
    strip = overlay_row(_image(), _mask(255), {"x": _mask(1)}, COLOURS)
    assert _middle(strip, 0, of=3) == (100, 100, 100)
    for index in (1, 2):
        red, green, blue = _middle(strip, index, of=3)
        assert max(red, green, blue) - min(red, green, blue) < 20
        assert red > 100


def test_sizes_must_agree() -> None:
    with pytest.raises(ValueError, match="teacher"):
        overlay_row(_image(), _mask(0), {"teacher": _mask(0, 10, 10)}, COLOURS)


def test_pick_takes_helped_median_and_hurt() -> None:
    baseline = confusions(0.7, 9)
    distilled = confusions(0.7 + np.linspace(-0.2, 0.2, 9), 9)
    picks = pick(baseline, distilled, each=1)
    assert [one.index for one in picks] == [8, 4, 0]
    assert [one.reason.split(":")[0] for one in picks] == ["helped most", "median", "hurt most"]
    assert picks[0].reason.endswith("mIoU points")


def test_pick_says_helped_least_when_nothing_was_hurt() -> None:
    picks = pick(confusions(0.6, 6), confusions(0.7 + np.arange(6) / 50, 6), each=1)
    assert picks[-1].reason.startswith("helped least")


@pytest.mark.parametrize("images", [1, 2, 3, 5])
def test_pick_never_repeats_an_image(images: int) -> None:
    picks = pick(confusions(0.6, images), confusions(0.7, images), each=2)
    indices = [one.index for one in picks]
    assert indices
    assert len(set(indices)) == len(indices)


def test_pick_skips_images_without_a_scored_pixel() -> None:
    before, after = confusions(0.6, 4), confusions(0.7, 4)
    before[2], after[2] = 0, 0
    assert 2 not in [one.index for one in pick(before, after, each=4)]


def test_palette_keeps_given_colours_and_repeats_none() -> None:
    entries = [ClassEntry(name=str(i)) for i in range(255)]
    entries[3] = ClassEntry(name="own", color=(0, 158, 115))
    colours = palette(entries)
    assert colours[3] == (0, 158, 115)
    assert len(set(colours)) == 255


def _middle(strip: object, index: int, *, of: int) -> tuple[int, int, int]:
    width, height = strip.size  # type: ignore[attr-defined]
    assert width >= of * PANEL_WIDTH
    pixels = np.asarray(strip)
    step = width / of
    centre = round(step * (index + 0.5))
    block = pixels[height // 2 : height // 2 + 8, centre - 4 : centre + 4]
    red, green, blue = block.reshape(-1, 3).mean(axis=0).round().astype(int)
    return int(red), int(green), int(blue)

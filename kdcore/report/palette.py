"""Colours of classes and of the contestants' roles; distinct for colour-blind readers too."""

import colorsys
from collections.abc import Sequence

from kdcore.spec.dataset import ClassEntry, Colour

_BACKGROUND: Colour = (148, 156, 168)

# Okabe and Ito (2008) without black, then Tol's "muted" where it stays apart from them.
_DISTINCT: tuple[Colour, ...] = (
    (0, 158, 115),
    (230, 159, 0),
    (86, 180, 233),
    (213, 94, 0),
    (204, 121, 167),
    (0, 114, 178),
    (240, 228, 66),
    (136, 34, 85),
    (51, 34, 136),
    (153, 153, 51),
    (221, 204, 119),
    (170, 68, 153),
    (17, 119, 51),
)


def palette(classes: Sequence[ClassEntry]) -> tuple[Colour, ...]:
    """One colour a class: its own, else the next of the fixed list that no class has taken.

    Class 0 without a colour is grey: it is the background in most datasets.
    """
    taken = {entry.color for entry in classes if entry.color is not None}
    fresh = (colour for index in range(4 * 255) if (colour := _colour(index)) not in taken)
    return tuple(
        entry.color or (_BACKGROUND if index == 0 and _BACKGROUND not in taken else next(fresh))
        for index, entry in enumerate(classes)
    )


def _colour(index: int) -> Colour:
    """The fixed list, then hues a golden angle apart in three lightnesses."""
    if index < len(_DISTINCT):
        return _DISTINCT[index]
    hue = (index * 0.618034) % 1.0
    lightness, saturation = ((0.42, 0.75), (0.62, 0.6), (0.3, 0.55))[index % 3]
    red, green, blue = colorsys.hls_to_rgb(hue, lightness, saturation)
    return round(255 * red), round(255 * green), round(255 * blue)

"""What every layout reader works with."""

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from PIL import Image

from kdcore.data.listing import Folder, Pair
from kdcore.errors import SpecError


@dataclass(frozen=True)
class Places:
    """``given`` is the source's folder; ``made`` the one that converted pictures go to.

    They are one folder where nothing is converted. Both share one list of problems.
    """

    given: Folder
    made: Folder


class Reader(Protocol):
    """One layout. ``folder`` is what stands for ``{split}``; it is empty where splits are dealt."""

    def pairs(self, folder: str) -> list[Pair]: ...

    def pool(self) -> dict[str, Path]: ...


class NoPool:
    def pool(self) -> dict[str, Path]:
        """Images without masks by name."""
        return {}


def at(path: str, folder: str) -> str:
    return path.replace("{split}", folder)


def needed(module: str, layout: str) -> Any:
    """An optional package, imported when the first source asks for it. Raises: SpecError."""
    try:
        return import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise SpecError(
            f"the layout {layout} needs the package {package}, which cannot be imported: {error}",
            field="layout.kind",
            remedy=f"pip install {package}",
        ) from error


class Writer:
    """Writes pairs as ``FOLDER/images/ID.png`` and ``FOLDER/masks/ID.png``."""

    def __init__(self, made: Folder, folder: str) -> None:
        self._base = made.root / (folder or "all")
        for kind in ("images", "masks"):
            (self._base / kind).mkdir(parents=True, exist_ok=True)

    def pair(
        self,
        name: str,
        image: npt.NDArray[np.uint8],
        mask_HW: npt.NDArray[np.uint8] | npt.NDArray[np.uint16],
        *,
        group: str = "",
        origin: str,
    ) -> Pair:
        """``image`` is (H, W) or (H, W, 3)."""
        pair = Pair(name, self.path("images", name), self.path("masks", name), group, origin)
        Image.fromarray(image).save(pair.image)
        Image.fromarray(mask_HW).save(pair.mask)
        return pair

    def path(self, kind: str, name: str, ending: str = ".png") -> Path:
        return self._base / kind / f"{name}{ending}"


def windowed(values: npt.NDArray[np.float32], window: tuple[float, float]) -> npt.NDArray[np.uint8]:
    """Intensities between two percentiles of those above 0, as 0..255."""
    above = values[values > 0]
    if above.size == 0:
        return np.zeros(values.shape, dtype=np.uint8)
    low, high = (float(v) for v in np.percentile(above, window))
    if high <= low:
        return ((values >= high) * 255).astype(np.uint8)
    share: npt.NDArray[np.float32] = np.clip((values - low) / (high - low), 0, 1)
    return np.rint(share * 255).astype(np.uint8)

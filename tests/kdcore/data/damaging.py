"""Ways to damage a file of a dataset."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

Damage = Callable[[Path], object]


def write(content: bytes) -> Damage:
    return lambda path: path.write_bytes(content)


def picture(pixels: np.ndarray, kind: str = "PNG", **options: Any) -> Damage:
    return lambda path: Image.fromarray(pixels).save(path, kind, **options)


def replaced_by(make: Callable[[Path], object]) -> Damage:
    def damage(path: Path) -> None:
        path.unlink()
        make(path)

    return damage


def cut(share: float) -> Damage:
    return lambda path: path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])

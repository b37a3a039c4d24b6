"""Real samples of published datasets and real pretrained weights, where there are any."""

import os
from pathlib import Path

import pytest

SHARED = Path(os.environ.get("STILLHOUSE_SHARED", Path(__file__).parents[2] / "shared"))
"""`data/` and `weights/`; by default beside the repository."""
SAMPLES = SHARED / "data"


def needs(sample: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(
        not (SAMPLES / sample).is_dir(), reason=f"no {sample} below STILLHOUSE_SHARED"
    )

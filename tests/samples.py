"""Real samples of published datasets and real pretrained weights, where there are any."""

import os
from pathlib import Path

import pytest

SHARED = Path(os.environ.get("STILLHOUSE_SHARED", Path(__file__).parents[2] / "shared"))
"""`data/` and `weights/`; by default beside the repository."""
SAMPLES = SHARED / "data"


def needs(sample: str) -> pytest.MarkDecorator:
    """Skips without ``sample``, a path below `SHARED`; whoever names that folder wants no skips."""
    absent = not (SHARED / sample).exists() and "STILLHOUSE_SHARED" not in os.environ
    return pytest.mark.skipif(absent, reason=f"no {sample} below STILLHOUSE_SHARED")

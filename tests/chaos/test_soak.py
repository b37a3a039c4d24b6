"""The short form of the soak: every kind of blow, dealt quickly."""

from pathlib import Path

import pytest

from tests.chaos.cluster import Plan
from tests.chaos.soak import Orders, soak

SHORT = Orders(
    seed=5, minutes=1.5, jobs=300, rate=20.0, pauses=(0.5, 3.0), plan=Plan(workers=2, slots=2)
)


@pytest.mark.chaos
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_nothing_is_lost_doubled_or_left_behind(folder: Path) -> None:
    report = soak(folder, SHORT)
    assert report.violations == []
    assert sum(report.figures["blows"].values()) >= 10

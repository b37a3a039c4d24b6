"""Ignored pixels and classes without any, by the statistics alone."""

import pytest

from kdcore.errors import PreflightFailed
from kdcore.run.preflight.data import check_ignored, tell_absent_classes
from kdcore.spec.dataset import SplitStatistics
from tests.kdcore.run.preflight.conftest import Warnings


def counted(*class_pixels: int, ignored: int) -> SplitStatistics:
    return SplitStatistics(class_pixels=class_pixels, ignored_pixels=ignored)


@pytest.mark.parametrize("statistics", [counted(0, 0, ignored=9), counted(0, 0, ignored=0)])
def test_nothing_but_ignored_pixels(statistics: SplitStatistics, warn: Warnings) -> None:
    with pytest.raises(PreflightFailed) as caught:
        check_ignored(statistics, most=1.0, warn=warn)
    assert caught.value.field == "dataset"
    assert "ignore_index" in str(caught.value.remedy)


def test_more_ignored_than_allowed(warn: Warnings) -> None:
    with pytest.raises(PreflightFailed, match=r"40\.0% of the train split") as caught:
        check_ignored(counted(3, 3, ignored=4), most=0.39, warn=warn)
    assert caught.value.field == "preflight.max_ignored"
    check_ignored(counted(3, 3, ignored=4), most=0.4, warn=warn)
    assert warn == []


def test_more_than_half_is_told(warn: Warnings) -> None:
    check_ignored(counted(2, 3, ignored=5), most=1.0, warn=warn)
    assert warn == []
    check_ignored(counted(2, 2, ignored=6), most=1.0, warn=warn)
    assert warn.codes == ["much_ignored"]
    assert "60.0%" in warn[0][1]


def test_absent_classes_are_named(warn: Warnings) -> None:
    names = ["sky", "road", "tree"]
    tell_absent_classes(counted(1, 1, 1, ignored=0), names, warn=warn)
    assert warn == []
    tell_absent_classes(counted(0, 1, 0, ignored=0), names, warn=warn)
    assert warn.codes == ["absent_classes"]
    assert "sky, tree" in warn[0][1]
    assert "road" not in warn[0][1]

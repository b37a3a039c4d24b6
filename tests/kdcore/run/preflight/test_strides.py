"""Sizes that networks take, with the nearest that fit; grids that lie over each other."""

from typing import Any, cast

import pytest

from kdcore.data.samples import Samples
from kdcore.distill.teachers import Teacher
from kdcore.errors import PreflightFailed
from kdcore.models.network import build_model
from kdcore.run.preflight.parts import Named
from kdcore.run.preflight.strides import check_grids, check_images, check_size, tell_padding
from kdcore.spec.dataset import FileEntry, Sample
from kdcore.spec.model import ModelSpec
from tests.kdcore.run.preflight.conftest import MakeModel, Warnings

TAPS = [("pkd", 0, ("stride8", "stride8"))]


def test_padding_is_told_with_the_sizes_around(warn: Warnings) -> None:
    tell_padding((64, 96), warn=warn)
    assert warn == []
    tell_padding((360, 360), warn=warn)
    assert warn.codes == ["padded_crop"]
    assert "14% more pixels; [352, 352] or [384, 384] fits" in warn[0][1]


def test_a_network_that_takes_some_sizes_only(make_model: MakeModel) -> None:
    named = Named("teacher t", "teachers.0.model", make_model(only=64))
    check_size(named, (128, 128))
    with pytest.raises(PreflightFailed, match="teacher t takes no images of 96x96") as caught:
        check_size(named, (96, 96))
    assert caught.value.field == "train.size"
    assert caught.value.remedy == "[64, 64] or [128, 128]"
    assert named.model.training


def test_a_network_of_the_registry_with_windows_of_seven() -> None:
    spec = ModelSpec(arch="unet", encoder="tu-maxvit_rmlp_pico_rw_256")
    named = Named("the network", "model", build_model(spec, 3))
    check_size(named, (256, 256))
    with pytest.raises(PreflightFailed) as caught:
        check_size(named, (288, 288))
    assert caught.value.remedy == "[256, 256]"


def test_images_of_val_that_a_network_does_not_take(make_model: MakeModel) -> None:
    file = FileEntry(path="a.png", sha256="0" * 64, size=1)
    sizes = [("fits", 60, 64), ("first", 40, 70), ("second", 40, 71)]
    entries = tuple(
        Sample(id=name, image=file, mask=file, height=height, width=width)
        for name, height, width in sizes
    )
    val = cast(Samples, type("Val", (), {"entries": entries}))
    check_images(Named("the network", "model", make_model()), val)
    with pytest.raises(PreflightFailed, match="cannot be evaluated on first, 40x70") as caught:
        check_images(Named("the network", "model", make_model(only=64)), val)
    assert caught.value.field == "model"
    val = cast(Samples, type("Val", (), {"entries": entries[:1]}))
    check_images(Named("the network", "model", make_model(only=64)), val)


def taught(model: Any) -> list[Teacher]:
    return [Teacher("t", 1.0, model, cast(Any, None))]


@pytest.mark.parametrize(
    ("side", "told"),
    [(32, r"stride8 \(4x4\) and stride8 \(absent\)"), (128, r"\(16x16\).*\(17x17\)")],
)
def test_equal_strides_have_equal_grids(
    make_model: MakeModel, warn: Warnings, side: int, told: str
) -> None:
    check_grids(TAPS, make_model(), taught(make_model()), (side, side), warn=warn)
    odd = taught(make_model(padding=4))
    with pytest.raises(PreflightFailed, match=told) as caught:
        check_grids(TAPS, make_model(), odd, (side, side), warn=warn)
    assert caught.value.field == "train.size"
    assert caught.value.remedy == "other `taps`"
    assert warn == []


def test_the_nearest_size_with_equal_grids(make_model: MakeModel, warn: Warnings) -> None:
    """A stride of 7 makes 4 cells of 32, as 8 does, and 9 of the 64 that 48 is padded to."""
    teacher = taught(make_model(stride=7))
    with pytest.raises(PreflightFailed) as caught:
        check_grids(TAPS, make_model(), teacher, (48, 48), warn=warn)
    assert caught.value.remedy == "[32, 32]"
    check_grids(TAPS, make_model(), teacher, (32, 32), warn=warn)


def test_chosen_taps_that_do_not_lie_over_each_other_are_told(
    make_model: MakeModel, warn: Warnings
) -> None:
    taps = [("cosine", 0, ("stride8", "stride4"))]
    check_grids(taps, make_model(), taught(make_model(stride=4)), (64, 64), warn=warn)
    assert warn == []
    taps = [("cosine", 0, ("stride8", "stride12"))]
    check_grids(taps, make_model(), taught(make_model(stride=12)), (96, 96), warn=warn)
    assert warn.codes == ["uneven_taps"]
    assert "12x12" in warn[0][1]
    assert "8x8" in warn[0][1]


def test_no_taps_ask_for_nothing(make_model: MakeModel, warn: Warnings) -> None:
    check_grids([], make_model(only=1000), [], (32, 32), warn=warn)

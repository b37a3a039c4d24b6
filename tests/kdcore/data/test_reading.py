"""Pictures of every form become (H, W, 3) uint8 or class ids, and never something near it."""

from io import BytesIO
from typing import Any

import numpy as np
import pytest
from PIL import Image

from kdcore.data.reading import Unreadable, map_ids, read_image, read_mask
from tests.kdcore.data.making import noise, stripes


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> BytesIO:
    content = BytesIO()
    image.save(content, kind, **options)
    content.seek(0)
    return content


def test_grey_is_three_equal_channels() -> None:
    grey_HW = noise(0)[..., 0]
    assert (read_image(encoded(Image.fromarray(grey_HW))) == grey_HW[..., None]).all()


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_16_bits_keep_their_upper_8(kind: str) -> None:
    values_HW = np.arange(0, 65536, 1024, dtype=np.uint16).reshape(8, 8)
    read_HWC = read_image(encoded(Image.fromarray(values_HW), kind))
    assert (read_HWC[..., 1] == values_HW >> 8).all()


def test_transparency_is_dropped() -> None:
    rgba_HWC = noise(0, (6, 8, 4))
    assert (read_image(encoded(Image.fromarray(rgba_HWC))) == rgba_HWC[..., :3]).all()
    grey = Image.fromarray(rgba_HWC[..., 0])
    grey.putalpha(Image.fromarray(rgba_HWC[..., 3]))
    assert (read_image(encoded(grey))[..., 2] == rgba_HWC[..., 0]).all()


def test_palettes_with_transparent_entries() -> None:
    picture = Image.fromarray(np.repeat(stripes([0, 255])[..., None], 3, 2)).quantize(4)
    content = encoded(picture, transparency=b"\x00\xff")
    assert set(np.unique(read_image(content))) == {0, 255}


@pytest.mark.parametrize(
    ("orientation", "turned"),
    [(1, lambda x: x), (3, lambda x: x[::-1, ::-1]), (6, lambda x: np.rot90(x, -1)),
     (8, np.rot90), (2, lambda x: x[:, ::-1])],
)  # fmt: skip
def test_exif_orientation(orientation: int, turned: Any) -> None:
    pixels_HWC = noise(0)
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = encoded(Image.fromarray(pixels_HWC), exif=exif)
    assert (read_image(content) == turned(pixels_HWC)).all()
    mask_HW = stripes([0, 1, 2])
    assert (read_mask(encoded(Image.fromarray(mask_HW), exif=exif)) == turned(mask_HW)).all()


def test_cmyk_and_one_bit() -> None:
    assert read_image(encoded(Image.new("CMYK", (8, 6)), "JPEG")).shape == (6, 8, 3)
    bits = Image.fromarray(stripes([0, 255])).convert("1")
    assert set(np.unique(read_image(encoded(bits)))) == {0, 255}
    assert (read_mask(encoded(bits)) == stripes([0, 1])).all()


def test_masks_are_what_is_stored() -> None:
    indices = Image.fromarray(stripes([0, 7, 255]), "L").convert("P")
    indices.putpalette([5] * 768)
    for image in (indices, Image.fromarray(stripes([0, 7, 255]))):
        assert (read_mask(encoded(image)) == stripes([0, 7, 255])).all()
    wide_HW = stripes([100, 10000, 65535], np.uint16)
    assert (read_mask(encoded(Image.fromarray(wide_HW))) == wide_HW).all()


def test_mapping_is_the_same_for_small_and_large_ids() -> None:
    small = map_ids(stripes([3, 4], np.int32), {3: 1, 4: 255})
    large = map_ids(stripes([3, 2**30], np.int32), {3: 1, 2**30: 255})
    assert (small == large).all()
    assert small.dtype == np.uint8
    with pytest.raises(Unreadable, match=r"no class has: 5$"):
        map_ids(stripes([5, 3], np.int32), {3: 1})

"""`labelled_share`: masks of train that are withheld, whose images join the pool."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from kdcore.data.samples import Samples
from kdcore.data.scan import scan
from kdcore.spec.dataset import DatasetSource
from tests.shapes import make_shapes


def test_a_share_keeps_its_masks_and_the_rest_joins_the_pool(tmp_path: Path) -> None:
    source = make_shapes(tmp_path)
    full = scan(source)
    part = scan(withheld(source, 0.25))
    images = len(full.splits["train"])
    assert len(part.splits["train"]) == round(images / 4)
    assert len(part.unlabelled) == len(full.unlabelled) + images - round(images / 4)
    assert part.splits["val"] == full.splits["val"]
    kept = {sample.id for sample in part.splits["train"]}
    assert {f"train/{s.id}" for s in full.splits["train"] if s.id not in kept} <= {
        sample.id for sample in part.unlabelled
    }
    assert part.statistics["train"].class_pixels < full.statistics["train"].class_pixels


def test_a_smaller_share_is_a_part_of_a_larger_one(tmp_path: Path) -> None:
    source = make_shapes(tmp_path)
    small, large = (
        {s.id for s in scan(withheld(source, share)).splits["train"]} for share in (0.25, 0.5)
    )
    assert small < large


def test_a_withheld_mask_is_not_read(tmp_path: Path) -> None:
    source = make_shapes(tmp_path)
    manifest = scan(withheld(source, 0.25))
    pool = Samples(tmp_path, manifest, manifest.unlabelled)
    names = [s.id.removeprefix("train/") for s in manifest.unlabelled if s.id.startswith("train/")]
    (tmp_path / "train/masks" / f"{names[0]}.png").write_bytes(b"no image")
    again = scan(withheld(source, 0.25))
    assert again == manifest
    assert not pool[0][1].any()


@pytest.mark.parametrize("share", [0.0, 1.0, -0.1])
def test_the_share_lies_between_none_and_all(tmp_path: Path, share: float) -> None:
    source = make_shapes(tmp_path)
    with pytest.raises(ValidationError, match="labelled_share"):
        DatasetSource.model_validate({**source.model_dump(), "labelled_share": share})


def withheld(source: DatasetSource, share: float) -> DatasetSource:
    return source.model_copy(update={"labelled_share": share})

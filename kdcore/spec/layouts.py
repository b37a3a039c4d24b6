"""How the files of a dataset lie: one `kind` per layout.

Layouts of image files are read where they are. The others (`converts` is true) hold their pictures
inside something else; registering them writes plain image files, and everything behind the scan
knows only those (docs/adr/0008).
"""

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from kdcore.spec.base import Spec


def _stays_below(path: str) -> str:
    if path.startswith("/") or "\\" in path or "\0" in path or ".." in path.split("/"):
        raise ValueError("must be a relative path that stays below its folder")
    return path


RelativePath = Annotated[
    str, StringConstraints(min_length=1, max_length=1024), AfterValidator(_stays_below)
]
Suffix = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._-]{0,64}$")]
Key = Annotated[str, StringConstraints(min_length=1, max_length=256)]


class _Layout(Spec):
    @property
    def converts(self) -> bool:
        """Whether registering writes new image files, instead of taking those that are there."""
        return False


class FoldersLayout(_Layout):
    """Image/mask folder pairs, paired by file stem; ``{split}`` stands for the split's folder."""

    kind: Literal["folders"] = "folders"
    images: RelativePath = "{split}/images"
    masks: RelativePath = "{split}/masks"
    unlabelled: RelativePath | None = Field(
        default=None, description="Folder of images without masks"
    )
    image_suffix: Suffix = Field(
        default="", description="Ends the stem of every image and is no part of its name"
    )
    mask_suffix: Suffix = Field(
        default="", description="The same for masks; both kinds may then lie in one folder"
    )
    recursive: bool = Field(default=False, description="Look into subfolders; they pair too")


class VocLayout(_Layout):
    """PASCAL VOC: id lists, ``JPEGImages`` and ``SegmentationClass``; as a folder or as the .tar.

    ``{split}`` in ``lists`` is the split's name of a list (`splits: {train: trainval, ...}`).
    """

    kind: Literal["voc"] = "voc"
    archive: RelativePath | None = Field(
        default=None, description="A .tar or .tar.gz below `root`, read as it is"
    )
    base: RelativePath = Field(
        default="VOCdevkit/VOC2012", description="Folder below `root`, or inside the archive"
    )
    lists: RelativePath = "ImageSets/Segmentation/{split}.txt"
    images: RelativePath = "JPEGImages"
    masks: RelativePath = "SegmentationClass"

    @property
    def converts(self) -> bool:
        return self.archive is not None


class CityscapesLayout(_Layout):
    """``leftImg8bit/{split}/CITY/*_leftImg8bit.png`` and ``gtFine/{split}/CITY/*_gtFine_*.png``."""

    kind: Literal["cityscapes"] = "cityscapes"
    images: RelativePath = "leftImg8bit/{split}"
    masks: RelativePath = "gtFine/{split}"
    labels: Literal["labelTrainIds", "labelIds"] = "labelTrainIds"
    annotation: Literal["gtFine", "gtCoarse"] = "gtFine"


class IddLayout(_Layout):
    """India Driving Dataset: IDD-Lite by default.

    IDD-20k: ``image_suffix: _leftImg8bit``, ``mask_suffix: _gtFine_labellevel3Ids``. The form with
    palette masks: ``images: "{split}/images"``, ``masks: "{split}/rgb_labels"``, both suffixes
    empty, and ``masks: colors`` on the source.
    """

    kind: Literal["idd"] = "idd"
    images: RelativePath = "leftImg8bit/{split}"
    masks: RelativePath = "gtFine/{split}"
    image_suffix: Suffix = "_image"
    mask_suffix: Suffix = "_label"
    level: Literal[1, 3] = Field(
        default=1, description="Which classes are meant where none are given: 7 or 26"
    )


class CamvidLayout(_Layout):
    """A list per split, ``image mask`` a line, relative to `root`. Void is 11 by default."""

    kind: Literal["camvid"] = "camvid"
    lists: RelativePath = "{split}.txt"
    strip: str = Field(
        default="", max_length=256, description="Taken off the front of every path in the lists"
    )


class BratsLayout(_Layout):
    """BraTS volumes: ``CASE/CASE[-_]MODALITY.nii[.gz]``; slices across ``axis`` become images.

    One modality gives grey images, two or three the channels of RGB (a third stays black).
    Intensities between the two percentiles of a volume's voxels above 0 become 0..255.
    """

    kind: Literal["brats"] = "brats"
    folder: Annotated[str, AfterValidator(_stays_below)] = Field(
        default="{split}", description="Folder of the cases; `.` where `deal` makes the splits"
    )
    modalities: tuple[Key, ...] = Field(default=("t1c", "t2w", "t2f"), min_length=1, max_length=3)
    segmentation: Key = "seg"
    target: Literal["whole", "subregions"] = Field(
        default="whole",
        description="`whole`: tumour or not; `subregions`: 1 necrotic core, 2 oedema, 3 enhancing",
    )
    axis: Literal[0, 1, 2] = Field(default=2, description="2 is axial")
    keep: Literal["tumour", "brain", "all"] = Field(
        default="tumour", description="Slices without any of it are dropped"
    )
    every: int = Field(default=1, ge=1, le=1000, description="Of the kept slices, each n-th")
    window: tuple[Annotated[float, Field(ge=0, le=100)], Annotated[float, Field(ge=0, le=100)]] = (
        0.5,
        99.5,
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.window[0] >= self.window[1]:
            raise ValueError("window: the first percentile must be below the second")
        if len({*self.modalities, self.segmentation}) != len(self.modalities) + 1:
            raise ValueError("modalities: each may be named once, and none is the segmentation")
        return self

    @property
    def converts(self) -> bool:
        return True


class Hdf5Layout(_Layout):
    """One slice a file: ``image`` (H, W) or (H, W, C), ``mask`` (H, W) of ids or one-hot (H, W, R).

    The form in which BraTS 2020 is passed around (``volume_1_slice_70.h5``). A one-hot mask's
    region r becomes the id r + 1. Intensities are windowed as in `BratsLayout`, per slice.
    """

    kind: Literal["hdf5"] = "hdf5"
    folder: Annotated[str, AfterValidator(_stays_below)] = "{split}"
    image: Key = "image"
    mask: Key = "mask"
    channels: tuple[Annotated[int, Field(ge=0, le=255)], ...] = Field(
        default=(0, 1, 2), min_length=1, max_length=3
    )
    target: Literal["whole", "subregions"] = "whole"
    keep: Literal["tumour", "all"] = "tumour"
    window: tuple[Annotated[float, Field(ge=0, le=100)], Annotated[float, Field(ge=0, le=100)]] = (
        0.5,
        99.5,
    )

    @property
    def converts(self) -> bool:
        return True


class CocoLayout(_Layout):
    """COCO instances: polygons and run lengths painted into one mask, small things over large ones.

    Mask values are category ids, 0 where nothing is; name both in ``raw_ids`` of the classes. Crowd
    regions are left out as ignored. A `keypoints` or `panoptic` file is not read.
    """

    kind: Literal["coco"] = "coco"
    annotations: RelativePath = "annotations/instances_{split}.json"
    images: RelativePath = "{split}"

    @property
    def converts(self) -> bool:
        return True


class ParquetLayout(_Layout):
    """Hugging Face `datasets`: parquet files with an image and an annotation column."""

    kind: Literal["parquet"] = "parquet"
    files: RelativePath = Field(
        default="data/{split}-*.parquet", description="`*` stands for any part of the file's name"
    )
    image: Key = "image"
    annotation: Key = "annotation"

    @property
    def converts(self) -> bool:
        return True


Layout = Annotated[
    FoldersLayout
    | VocLayout
    | CityscapesLayout
    | IddLayout
    | CamvidLayout
    | BratsLayout
    | Hdf5Layout
    | CocoLayout
    | ParquetLayout,
    Field(discriminator="kind"),
]

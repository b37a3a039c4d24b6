"""What a dataset is: how a user names its files, and what was found there."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from kdcore.spec.base import Name, Sha256, Spec, digest
from kdcore.spec.class_tables import usual
from kdcore.spec.layouts import FoldersLayout, Layout, RelativePath
from kdcore.spec.train import Size

Colour = tuple[
    Annotated[int, Field(ge=0, le=255)],
    Annotated[int, Field(ge=0, le=255)],
    Annotated[int, Field(ge=0, le=255)],
]
RawId = Annotated[int, Field(ge=0, le=2**31 - 1)]

CLASSES_MAX = 255
UNLABELLED = "unlabelled"
IGNORE = 255
"""The one ignore value inside kdcore: masks are uint8 there, class ids end at 254."""


class ClassEntry(Spec):
    """One class; its id is its position in the list of classes."""

    name: Annotated[str, StringConstraints(min_length=1, max_length=100)]
    color: Colour | None = None
    raw_ids: tuple[RawId, ...] | None = Field(
        default=None, description="Mask values that mean this class; by default the class id itself"
    )


class Meaning(Spec):
    """What the values of the mask files mean."""

    classes: tuple[ClassEntry, ...]
    ignore_index: Annotated[int, Field(ge=0, le=65535)] | None = Field(
        default=255,
        description="Mask value that is left out of every loss and metric; null if there is none",
    )
    ignored_ids: tuple[RawId, ...] = Field(
        default=(), description="Further mask values that are left out", max_length=65536
    )
    masks: Literal["ids", "colors"] = Field(
        default="ids", description="`colors`: masks are pictures in the colours of the classes"
    )
    ignored_colors: tuple[Colour, ...] = Field(
        default=(), description="With `masks: colors`, colours that are left out", max_length=256
    )
    resize: Size | None = Field(
        default=None,
        description="Height and width that every image (bilinear) and mask (nearest) is read at, for "
        "training and for scores alike; class pixels are counted before",
    )

    def raw_ids(self) -> tuple[tuple[int, ...], ...]:
        """Raw mask values per class, in class order; a colour's value is ``0xRRGGBB``."""
        if self.masks == "colors":
            return tuple(
                (packed(entry.color),) for entry in self.classes if entry.color is not None
            )
        return tuple(
            entry.raw_ids if entry.raw_ids is not None else (index,)
            for index, entry in enumerate(self.classes)
        )

    def raw_id_map(self) -> dict[int, int]:
        """Raw mask value to class id; ignored values map to 255 (`IGNORE`)."""
        table = {raw: index for index, raws in enumerate(self.raw_ids()) for raw in raws}
        return {**table, **dict.fromkeys(self.ignored(), IGNORE)}

    def ignored(self) -> tuple[int, ...]:
        """Raw mask values that are left out."""
        if self.masks == "colors":
            return tuple(packed(color) for color in self.ignored_colors)
        return (*(() if self.ignore_index is None else (self.ignore_index,)), *self.ignored_ids)


class Deal(Spec):
    """Splits dealt out of one folder, in the order of the names' digests: no seed is needed."""

    val: float = Field(default=0.2, gt=0, lt=1, description="Share of the samples")
    test: float = Field(default=0.0, ge=0, lt=1, description="Share of the samples; 0 for no test")
    group_before: Annotated[str, StringConstraints(max_length=64)] = Field(
        default="",
        description="Names that are equal before this text (frames of one video) stay together",
    )
    blocks: bool = Field(
        default=False,
        description="Cut each group's samples, in order, into train, val and test instead. "
        "Neighbours at the cuts are alike: for trying things out on one video or one patient",
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.val + self.test >= 1:
            raise ValueError("val and test leave nothing to train on")
        return self


class DatasetSource(Meaning):
    """What ``POST /v1/datasets`` and a recipe take: where the files are and what they mean.

    The layouts of published datasets bring their classes, splits and ignored values along; whatever
    is given here replaces them.
    """

    name: Name
    root: str = Field(
        min_length=1, description="Folder; relative ones start at the recipe's folder"
    )
    layout: Layout = FoldersLayout()
    splits: dict[Literal["train", "val", "test"], RelativePath] = Field(
        default={"train": "train", "val": "val", "test": "test"},
        description="Split name to its folder",
    )
    deal: Deal | None = Field(
        default=None, description="For data without splits: `splits` is not looked at then"
    )
    labelled_share: Annotated[float, Field(gt=0, lt=1)] | None = Field(
        default=None,
        description="Share of train whose masks are used, chosen by the names' digests; the other "
        "images join the pool without masks. To learn what labels are worth",
    )
    classes: tuple[ClassEntry, ...] = Field(min_length=2, max_length=CLASSES_MAX)
    reduce_labels: bool = Field(
        default=False,
        description="Mask value 0 is ignored and class i is stored as i + 1 (ADE20K)",
    )

    @model_validator(mode="before")
    @classmethod
    def _fill_in(cls, given: Any) -> Any:
        if not isinstance(given, Mapping):
            return given
        layout = given.get("layout")
        if isinstance(layout, Mapping):
            layout = {"kind": "folders", **layout}
            given = {**given, "layout": layout}
            # Ignored values belong to the table: who lists classes says what is ignored, too.
            known = usual(layout) if "classes" not in given else usual_splits(layout)
            return {**known, **given}
        return given

    @model_validator(mode="after")
    def _check(self) -> Self:
        names = [entry.name for entry in self.classes]
        if len(set(names)) != len(names):
            raise ValueError("classes: names must be unique")
        if self.deal is None and not {"train", "val"} <= set(self.splits):
            raise ValueError("splits: `train` and `val` are required")
        if self.deal is not None and "{split}" in self.layout.model_dump_json():
            raise ValueError("deal: the layout's paths must not hold {split}; name one folder")
        if self.masks == "colors":
            self._check_colors()
        elif self.ignored_colors:
            raise ValueError("ignored_colors: only for `masks: colors`")
        self._check_reduction()
        raw_ids = [raw for ids in self.resolved().raw_ids() for raw in ids]
        if len(set(raw_ids)) != len(raw_ids):
            raise ValueError("classes: a raw id may belong to one class only")
        if self.ignore_index in raw_ids and self.masks == "ids":
            raise ValueError(
                "ignore_index: it is also the raw id of a class; null means that nothing is ignored"
            )
        if set(raw_ids) & set(self.resolved().ignored()):
            raise ValueError("ignored values: one of them also belongs to a class")
        return self

    def resolved(self) -> "DatasetSource":
        """The same without `reduce_labels`: the classes' raw ids say it."""
        if not self.reduce_labels:
            return self
        classes = tuple(
            entry.model_copy(update={"raw_ids": (index + 1,)})
            for index, entry in enumerate(self.classes)
        )
        return self.model_copy(
            update={
                "classes": classes,
                "ignored_ids": (0, *self.ignored_ids),
                "reduce_labels": False,
            }
        )

    def _check_colors(self) -> None:
        for entry in self.classes:
            if entry.color is None:
                raise ValueError(f"classes: `masks: colors` needs the color of {entry.name}")
            if entry.raw_ids is not None:
                raise ValueError(f"classes: {entry.name} has raw_ids, but `masks: colors` is given")
        if len({entry.color for entry in self.classes}) != len(self.classes):
            raise ValueError("classes: with `masks: colors`, colors must be unique")
        if self.ignored_ids:
            raise ValueError("ignored_ids: with `masks: colors`, name `ignored_colors`")

    def _check_reduction(self) -> None:
        if not self.reduce_labels:
            return
        if self.masks == "colors":
            raise ValueError("reduce_labels: not with `masks: colors`")
        if any(entry.raw_ids is not None for entry in self.classes):
            raise ValueError("reduce_labels: the classes' raw_ids say it already; name one of them")


def usual_splits(layout: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in usual(dict(layout)).items() if key == "splits"}


def packed(color: Colour) -> int:
    """``0xRRGGBB``."""
    return color[0] << 16 | color[1] << 8 | color[2]


class FileEntry(Spec):
    path: RelativePath
    sha256: Sha256
    size: int = Field(ge=0, description="bytes")


class Sample(Spec):
    """One image with its mask (none in the unlabelled pool)."""

    id: str
    image: FileEntry
    mask: FileEntry | None
    height: int = Field(gt=0, description="pixels, as it is read")
    width: int = Field(gt=0, description="pixels, as it is read")


class SplitStatistics(Spec):
    """Counted on the raw masks, before any resizing."""

    class_pixels: tuple[int, ...]
    ignored_pixels: int


class DatasetManifest(Meaning):
    """An immutable snapshot of a dataset: every file by its digest, every class by its pixels."""

    splits: dict[str, tuple[Sample, ...]]
    unlabelled: tuple[Sample, ...] = ()
    statistics: dict[str, SplitStatistics]

    def fingerprint(self) -> str:
        """sha256 of the manifest: equal files and equal meaning give an equal fingerprint."""
        described = self.to_json()
        for name, silent in _LATER.items():
            if described[name] == silent:
                del described[name]
        return digest(described)

    def files(self) -> tuple[FileEntry, ...]:
        entries = [
            entry
            for samples in self.groups().values()
            for sample in samples
            for entry in (sample.image, sample.mask)
        ]
        return tuple(entry for entry in entries if entry is not None)

    def groups(self) -> dict[str, tuple[Sample, ...]]:
        """The splits, and the samples without masks under `UNLABELLED`."""
        return {**self.splits, UNLABELLED: self.unlabelled}


def thumbnail_path(split: str, place: int) -> str:
    """Where a scan puts the picture of sample number ``place`` of one of `groups`."""
    return f"{split}/{place}.webp"


_LATER: dict[str, Any] = {"ignored_ids": [], "masks": "ids", "ignored_colors": [], "resize": None}
"""Fields that came later count where they say something: older revisions keep their fingerprint."""

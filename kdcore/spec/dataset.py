"""What a dataset is: how a user names its files, and what was found there."""

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from kdcore.spec.base import Name, Sha256, Spec, digest


def _stays_below(path: str) -> str:
    if path.startswith("/") or "\\" in path or "\0" in path or ".." in path.split("/"):
        raise ValueError("must be a relative path that stays below its folder")
    return path


RelativePath = Annotated[
    str, StringConstraints(min_length=1, max_length=1024), AfterValidator(_stays_below)
]
Colour = tuple[
    Annotated[int, Field(ge=0, le=255)],
    Annotated[int, Field(ge=0, le=255)],
    Annotated[int, Field(ge=0, le=255)],
]

CLASSES_MAX = 255
IGNORE = 255
"""The one ignore value inside kdcore: masks are uint8 there, class ids end at 254."""


class ClassEntry(Spec):
    """One class; its id is its position in the list of classes."""

    name: Annotated[str, StringConstraints(min_length=1, max_length=100)]
    color: Colour | None = None
    raw_ids: tuple[Annotated[int, Field(ge=0, le=2**31 - 1)], ...] | None = Field(
        default=None, description="Mask values that mean this class; by default the class id itself"
    )


class FoldersLayout(Spec):
    """Image/mask folder pairs, paired by file stem; ``{split}`` stands for the split's folder."""

    kind: Literal["folders"] = "folders"
    images: RelativePath = "{split}/images"
    masks: RelativePath = "{split}/masks"
    unlabelled: RelativePath | None = Field(
        default=None, description="Folder of images without masks"
    )


class DatasetSource(Spec):
    """What ``POST /v1/datasets`` and a recipe take: where the files are and what they mean."""

    name: Name
    root: str = Field(
        min_length=1, description="Folder; relative ones start at the recipe's folder"
    )
    layout: FoldersLayout = FoldersLayout()
    splits: dict[Literal["train", "val", "test"], RelativePath] = Field(
        default={"train": "train", "val": "val", "test": "test"},
        description="Split name to its folder",
    )
    classes: tuple[ClassEntry, ...] = Field(min_length=2, max_length=CLASSES_MAX)
    ignore_index: Annotated[int, Field(ge=0, le=65535)] = Field(
        default=255, description="Mask value that is left out of every loss and metric"
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        names = [entry.name for entry in self.classes]
        if len(set(names)) != len(names):
            raise ValueError("classes: names must be unique")
        if not {"train", "val"} <= set(self.splits):
            raise ValueError("splits: `train` and `val` are required")
        raw_ids = [raw for i, entry in enumerate(self.classes) for raw in _raw_ids(i, entry)]
        if len(set(raw_ids)) != len(raw_ids):
            raise ValueError("classes: a raw id may belong to one class only")
        if self.ignore_index in raw_ids:
            raise ValueError("ignore_index: it is also the raw id of a class")
        return self


def raw_id_map(classes: tuple[ClassEntry, ...], ignore_index: int) -> dict[int, int]:
    """Raw mask value to class id; the ignore value maps to `IGNORE`."""
    table = {raw: index for index, entry in enumerate(classes) for raw in _raw_ids(index, entry)}
    return {**table, ignore_index: IGNORE}


def _raw_ids(index: int, entry: ClassEntry) -> tuple[int, ...]:
    return entry.raw_ids if entry.raw_ids is not None else (index,)


class FileEntry(Spec):
    path: RelativePath
    sha256: Sha256
    size: int = Field(ge=0, description="bytes")


class Sample(Spec):
    """One image with its mask (none in the unlabelled pool)."""

    id: str
    image: FileEntry
    mask: FileEntry | None
    height: int = Field(gt=0, description="pixels")
    width: int = Field(gt=0, description="pixels")


class SplitStatistics(Spec):
    """Counted on the raw masks, before any resizing."""

    class_pixels: tuple[int, ...]
    ignored_pixels: int


class DatasetManifest(Spec):
    """An immutable snapshot of a dataset: every file by its digest, every class by its pixels."""

    classes: tuple[ClassEntry, ...]
    ignore_index: int
    splits: dict[str, tuple[Sample, ...]]
    unlabelled: tuple[Sample, ...] = ()
    statistics: dict[str, SplitStatistics]

    def fingerprint(self) -> str:
        """sha256 of the manifest: equal files and equal meaning give an equal fingerprint."""
        return digest(self.to_json())

    def files(self) -> tuple[FileEntry, ...]:
        samples = [sample for split in self.splits.values() for sample in split]
        entries = [
            entry
            for sample in (*samples, *self.unlabelled)
            for entry in (sample.image, sample.mask)
        ]
        return tuple(entry for entry in entries if entry is not None)

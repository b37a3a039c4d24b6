"""From a source to its pairs, whatever the layout."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from kdcore.data.deal import deal, withhold
from kdcore.data.layouts.brats import Brats
from kdcore.data.layouts.coco import Coco
from kdcore.data.layouts.files import Camvid, Cityscapes, Folders, Idd, Voc
from kdcore.data.layouts.hdf5 import Hdf5
from kdcore.data.layouts.parquet import Parquet
from kdcore.data.layouts.reading import Places, Reader
from kdcore.data.listing import Folder, Pair
from kdcore.errors import SpecError
from kdcore.spec.dataset import DatasetSource
from kdcore.spec.layouts import (
    BratsLayout,
    CamvidLayout,
    CityscapesLayout,
    CocoLayout,
    FoldersLayout,
    Hdf5Layout,
    IddLayout,
    ParquetLayout,
    VocLayout,
)

MARK: Final = ".converted-by-kd"


@dataclass(frozen=True)
class Opened:
    """The pairs of a source. Paths lie below ``folder.root``; its problems are those of listing."""

    folder: Folder
    splits: dict[str, list[Pair]]
    unlabelled: dict[str, Path]


def open_layout(source: DatasetSource, converted: Path | None) -> Opened:
    """Find (or, below ``converted``, make) the image files of ``source``.

    ``converted`` is emptied if an earlier conversion filled it. Raises: SpecError, where it is
    needed and missing or holds something else, or where the layout's package is not installed.
    """
    given = Folder(Path(source.root))
    made = given
    if source.layout.converts:
        if converted is None:
            raise SpecError(
                f"the layout {source.layout.kind} is converted into image files, "
                "and no folder for them is given",
                field="layout",
                remedy="kd scan --converted FOLDER",
            )
        made = Folder(_emptied(converted), given.problems)
    reader = _reader(source, Places(given, made))
    if source.deal is None:
        splits = {str(name): reader.pairs(folder) for name, folder in source.splits.items()}
    else:
        splits = deal(reader.pairs(""), source.deal)
    pool = reader.pool()
    if source.labelled_share is not None:
        splits["train"], withheld = withhold(splits["train"], source.labelled_share)
        pool = {**pool, **withheld}
    return Opened(made, splits, pool)


def _reader(source: DatasetSource, places: Places) -> Reader:
    match source.layout:
        case FoldersLayout() as layout:
            return Folders(layout, places)
        case VocLayout() as layout:
            return Voc(layout, places)
        case CityscapesLayout() as layout:
            return Cityscapes(layout, places)
        case IddLayout() as layout:
            return Idd(layout, places)
        case CamvidLayout() as layout:
            return Camvid(layout, places)
        case BratsLayout() as layout:
            return Brats(layout, places)
        case Hdf5Layout() as layout:
            return Hdf5(layout, places)
        case CocoLayout() as layout:
            return Coco(layout, places, source)
        case ParquetLayout() as layout:
            return Parquet(layout, places)


def _emptied(folder: Path) -> Path:
    """``folder`` with nothing but our mark in it. What others put there is never removed."""
    if folder.exists() and any(folder.iterdir()):
        if not (folder / MARK).is_file():
            raise SpecError(
                f"{folder} holds files that no conversion put there",
                remedy="choose another folder for the converted files",
            )
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MARK).touch()
    return folder

"""Layouts of image files that are taken where they lie."""

from pathlib import Path

from kdcore.data.layouts.archive import extract
from kdcore.data.layouts.reading import NoPool, Places, at
from kdcore.data.listing import SUFFIXES, Folder, Pair
from kdcore.spec.layouts import (
    CamvidLayout,
    CityscapesLayout,
    FoldersLayout,
    IddLayout,
    VocLayout,
)


class Folders:
    def __init__(self, layout: FoldersLayout, places: Places) -> None:
        self._layout, self._folder = layout, places.given

    def pairs(self, folder: str) -> list[Pair]:
        layout = self._layout
        where = at(layout.images, folder)
        images = self._by_key(where, layout.image_suffix, layout.mask_suffix)
        masks = self._by_key(at(layout.masks, folder), layout.mask_suffix, layout.image_suffix)
        return self._folder.pairs(where, images, masks)

    def pool(self) -> dict[str, Path]:
        if self._layout.unlabelled is None:
            return {}
        return self._by_key(self._layout.unlabelled, self._layout.image_suffix, "")

    def _by_key(self, folder: str, suffix: str, other: str) -> dict[str, Path]:
        return self._folder.by_key(
            folder, suffix=suffix, beside=(other,), recursive=self._layout.recursive
        )


class Cityscapes(NoPool):
    def __init__(self, layout: CityscapesLayout, places: Places) -> None:
        self._layout, self._folder = layout, places.given

    def pairs(self, folder: str) -> list[Pair]:
        kind = self._layout.annotation
        layers = ("labelIds", "labelTrainIds", "instanceIds", "instanceTrainIds", "color")
        where = at(self._layout.images, folder)
        images = self._folder.by_key(where, suffix="_leftImg8bit", recursive=True)
        masks = self._folder.by_key(
            at(self._layout.masks, folder),
            suffix=f"_{kind}_{self._layout.labels}",
            beside=(*(f"_{kind}_{layer}" for layer in layers), f"_{kind}_polygons"),
            recursive=True,
        )
        return self._folder.pairs(where, images, masks)


class Idd(NoPool):
    def __init__(self, layout: IddLayout, places: Places) -> None:
        self._layout, self._folder = layout, places.given

    def pairs(self, folder: str) -> list[Pair]:
        layout = self._layout
        where = at(layout.images, folder)
        images = self._folder.by_key(where, suffix=layout.image_suffix, recursive=True)
        masks = self._folder.by_key(
            at(layout.masks, folder),
            suffix=layout.mask_suffix,
            beside=self._beside(),
            recursive=True,
        )
        return self._folder.pairs(where, images, masks)

    def _beside(self) -> tuple[str, ...]:
        if not self._layout.mask_suffix:
            return ()
        levels = ("label", "instance", "labellevel1", "labellevel2", "labellevel3", "labellevel4",
                  "labelcs", "labelcsTrain", "instancelevel3", "unionlabel")  # fmt: skip
        return (
            "_inst_label",
            "_gtFine_polygons",
            "_gtFine_color",
            "_gtFine_labelColors",
            *(f"_gtFine_{level}Ids" for level in levels),
        )


class Camvid(NoPool):
    def __init__(self, layout: CamvidLayout, places: Places) -> None:
        self._layout, self._folder = layout, places.given

    def pairs(self, folder: str) -> list[Pair]:
        path = self._folder.root / at(self._layout.lists, folder)
        pairs: dict[str, Pair] = {}
        for number, line in enumerate(self._folder.lines(path), start=1):
            fields = line.split()
            if len(fields) != 2:
                self._folder.problem(path, f"line {number}: expected `image mask`")
                continue
            image, mask = (self._resolve(field) for field in fields)
            if image is None or mask is None:
                self._folder.problem(path, f"line {number}: a path leaves the dataset's folder")
                continue
            name = image.relative_to(self._folder.root).with_suffix("").as_posix()
            # Both are looked at, so that both are named when both are bad.
            usable = [self._folder.file(path) for path in (image, mask)]
            if name in pairs:
                self._folder.problem(path, f"line {number}: {name} is listed twice")
            elif all(usable):
                pairs[name] = Pair(name, image, mask)
        return list(pairs.values())

    def _resolve(self, listed: str) -> Path | None:
        return self._folder.below(listed.removeprefix(self._layout.strip))


class Voc(NoPool):
    """Also out of the archive: what the lists name is taken out first, then read as a folder."""

    def __init__(self, layout: VocLayout, places: Places) -> None:
        self._layout, self._places = layout, places

    def pairs(self, folder: str) -> list[Pair]:
        layout, source = self._layout, self._places.given
        listed = at(f"{layout.base}/{layout.lists}", folder)
        if layout.archive is None:
            ids = _ids(source, source.root / listed)
            return self._find(source, ids)
        archive, made = source.root / layout.archive, self._places.made
        if not extract(source, archive, made, frozenset({listed})):
            return []
        ids = _ids(made, made.root / listed)
        wanted = {
            f"{layout.base}/{kind}/{name}{ending}"
            for kind in (layout.images, layout.masks)
            for name in ids
            for ending in SUFFIXES
        }
        extract(source, archive, made, frozenset(wanted))
        return self._find(made, ids)

    def _find(self, folder: Folder, ids: list[str]) -> list[Pair]:
        base = folder.root / self._layout.base
        pairs = []
        for name in ids:
            image = _one_of(folder, base / self._layout.images, name, "image")
            mask = _one_of(folder, base / self._layout.masks, name, "mask")
            if image is not None and mask is not None:
                pairs.append(Pair(name, image, mask))
        return pairs


def _ids(folder: Folder, path: Path) -> list[str]:
    """The ids of an ImageSets list; a second column (of the per-class lists) is passed over."""
    ids: dict[str, None] = {}
    for number, line in enumerate(folder.lines(path), start=1):
        name = line.split()[0]
        if "/" in name or folder.below(name) is None:
            folder.problem(path, f"line {number}: {name!a} is no id")
        elif name in ids:
            folder.problem(path, f"line {number}: {name} is listed twice")
        else:
            ids[name] = None
    return list(ids)


def _one_of(folder: Folder, where: Path, name: str, kind: str) -> Path | None:
    found = [path for ending in sorted(SUFFIXES) if (path := where / f"{name}{ending}").is_file()]
    if len(found) != 1:
        reason = f"several files of this {kind}" if found else f"no {kind} of this listed id"
        folder.problem(where / name, reason)
        return None
    return found[0] if folder.file(found[0]) else None

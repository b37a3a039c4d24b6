"""From a `DatasetSource` to a `DatasetManifest`: every file looked at, every bad one named."""

import hashlib
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path

import numpy as np
import numpy.typing as npt

from kdcore.data.layouts import open_layout
from kdcore.data.listing import Folder, Pair
from kdcore.data.reading import Unreadable, count_ids, map_ids, read_image, read_mask
from kdcore.data.thumbnails import Album, write_thumbnail
from kdcore.errors import DatasetInvalid
from kdcore.spec.dataset import (
    UNLABELLED,
    DatasetManifest,
    DatasetSource,
    FileEntry,
    Sample,
    SplitStatistics,
)


def scan(
    source: DatasetSource, *, converted: Path | None = None, thumbnails: Album | None = None
) -> DatasetManifest:
    """Read every image and mask of ``source`` and describe them.

    Paths in the manifest start at `files_root`: ``converted`` for layouts that are converted into
    image files, and the source's root otherwise. ``thumbnails`` is filled with small pictures of
    samples, their masks over them.

    Raises: DatasetInvalid with all problems found, not only the first; SpecError for a layout that
        cannot be read here (no ``converted``, or a package that is not installed).
    """
    source = source.resolved()
    opened = open_layout(source, converted)
    scanner = _Scanner(source, opened.folder, thumbnails)
    splits = {name: scanner.split(name, pairs) for name, pairs in opened.splits.items()}
    unlabelled = scanner.unlabelled(opened.unlabelled)
    labelled = {name: samples for name, (samples, _) in splits.items()}
    scanner.refuse_leaks({**labelled, "pool": unlabelled})
    if opened.folder.problems:
        raise DatasetInvalid(list(dict.fromkeys(opened.folder.problems)))
    return DatasetManifest(
        classes=source.classes,
        ignore_index=source.ignore_index,
        ignored_ids=source.ignored_ids,
        masks=source.masks,
        ignored_colors=source.ignored_colors,
        resize=source.resize,
        splits={name: tuple(samples) for name, (samples, _) in splits.items()},
        unlabelled=tuple(unlabelled),
        statistics={name: statistics for name, (_, statistics) in splits.items()},
    )


def files_root(source: DatasetSource, converted: Path | None) -> Path:
    """Where the paths of the manifest that `scan` returns start."""
    if source.layout.converts and converted is not None:
        return converted
    return Path(source.root)


class _Scanner:
    def __init__(self, source: DatasetSource, folder: Folder, thumbnails: Album | None) -> None:
        self.source = source
        self.folder = folder
        self.raw_id_map = source.raw_id_map()
        self.flat: set[str] = set()
        self.thumbnails = thumbnails

    def split(self, name: str, pairs: list[Pair]) -> tuple[list[Sample], SplitStatistics]:
        pixels = np.zeros(len(self.source.classes), dtype=np.int64)
        ignored = 0
        samples: list[Sample] = []
        pictures = self._pictures(name, len(pairs))
        for place, pair in enumerate(pairs):
            try:
                sample, counts, ignored_here = self._pair(pair, pictures.get(place))
            except _BadFile as bad:
                self.folder.problem(pair.origin or bad.path, bad.reason)
                continue
            samples.append(sample)
            pixels += counts
            ignored += ignored_here
        if not pairs and not self.folder.problems:
            self.folder.problem(name, "this split has no samples")
        return samples, SplitStatistics(
            class_pixels=tuple(int(count) for count in pixels), ignored_pixels=ignored
        )

    def unlabelled(self, found: dict[str, Path]) -> list[Sample]:
        samples = []
        pictures = self._pictures(UNLABELLED, len(found))
        for place, (name, path) in enumerate(sorted(found.items())):
            try:
                image_HWC, entry = self._image(path)
            except _BadFile as bad:
                self.folder.problem(bad.path, bad.reason)
                continue
            height, width = self.source.resize or image_HWC.shape[:2]
            samples.append(Sample(id=name, image=entry, mask=None, height=height, width=width))
            if place in pictures:
                write_thumbnail(pictures[place], image_HWC, None, self.source.classes)
        return samples

    def refuse_leaks(self, groups: Mapping[str, list[Sample]]) -> None:
        """A picture that is learned from and judged on makes every figure worthless.

        Only the pool may repeat train: there it is no news. Pictures of one colour are no such case:
        empty slices are all alike.
        """
        seen: dict[str, tuple[str, str]] = {}
        for name, samples in groups.items():
            for sample in samples:
                if sample.image.sha256 in self.flat:
                    continue
                other, path = seen.setdefault(sample.image.sha256, (name, sample.image.path))
                if other != name and {other, name} != {"train", "pool"}:
                    self.folder.problem(
                        self.folder.root / sample.image.path,
                        f"the same image is in {other}: {path}",
                    )

    def _pictures(self, split: str, count: int) -> dict[int, Path]:
        """Where the thumbnails of a split go, by the places of their samples.

        Those are the places in the manifest too: a bad file would shift them, and ends the scan.
        """
        if self.thumbnails is None:
            return {}
        album = self.thumbnails
        return {place: album.path(split, place) for place in album.places(count)}

    def _pair(self, pair: Pair, picture: Path | None) -> tuple[Sample, npt.NDArray[np.int64], int]:
        image_HWC, image_entry = self._image(pair.image)
        height, width, _ = image_HWC.shape
        colors = self.source.masks == "colors"
        try:
            content, mask_entry = self._read(pair.mask)
            raw_HW = read_mask(BytesIO(content), colors=colors)
            mask_HW = map_ids(raw_HW, self.raw_id_map, colors=colors)
        except Unreadable as error:
            raise _BadFile(pair.mask, str(error)) from error
        if mask_HW.shape != (height, width):
            found = f"{mask_HW.shape[1]}x{mask_HW.shape[0]}"
            turned = mask_HW.shape == (width, height)
            hint = "; is one of them turned by an EXIF orientation?" if turned else ""
            raise _BadFile(pair.mask, f"mask is {found}, its image {width}x{height}{hint}")
        counts, ignored = count_ids(mask_HW, len(self.source.classes))
        height, width = self.source.resize or (height, width)
        sample = Sample(id=pair.id, image=image_entry, mask=mask_entry, height=height, width=width)
        if picture is not None:
            write_thumbnail(picture, image_HWC, mask_HW, self.source.classes)
        return sample, counts, ignored

    def _image(self, path: Path) -> tuple[npt.NDArray[np.uint8], FileEntry]:
        try:
            content, entry = self._read(path)
            image_HWC = read_image(BytesIO(content))
        except Unreadable as error:
            raise _BadFile(path, str(error)) from error
        if (image_HWC == image_HWC[0, 0]).all():
            self.flat.add(entry.sha256)
        return image_HWC, entry

    def _read(self, path: Path) -> tuple[bytes, FileEntry]:
        """Read once: what is digested is what is looked at."""
        try:
            content = path.read_bytes()
        except OSError as error:
            raise Unreadable(f"cannot be read: {error.strerror}") from error
        entry = FileEntry(
            path=self.folder.relative(path),
            sha256=hashlib.sha256(content).hexdigest(),
            size=len(content),
        )
        return content, entry


class _BadFile(Exception):
    def __init__(self, path: Path, reason: str) -> None:
        self.path = path
        self.reason = reason

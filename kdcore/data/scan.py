"""From a `DatasetSource` to a `DatasetManifest`: every file looked at, every bad one named."""

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from kdcore.data.reading import FORMATS, Unreadable, count_ids, map_ids, read_image, read_mask
from kdcore.errors import DatasetInvalid, FileProblem
from kdcore.spec.dataset import (
    DatasetManifest,
    DatasetSource,
    FileEntry,
    Sample,
    SplitStatistics,
    raw_id_map,
)

_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp", ".bmp"})


def scan(source: DatasetSource) -> DatasetManifest:
    """Read every image and mask of ``source`` and describe them.

    Raises: DatasetInvalid with all problems found, not only the first.
    """
    scanner = _Scanner(source)
    splits = {name: scanner.split(folder) for name, folder in source.splits.items()}
    unlabelled = scanner.unlabelled()
    scanner.refuse_leaks(splits, unlabelled)
    if scanner.problems:
        raise DatasetInvalid(scanner.problems)
    return DatasetManifest(
        classes=source.classes,
        ignore_index=source.ignore_index,
        splits={name: tuple(samples) for name, (samples, _) in splits.items()},
        unlabelled=tuple(unlabelled),
        statistics={name: statistics for name, (_, statistics) in splits.items()},
    )


class _Scanner:
    def __init__(self, source: DatasetSource) -> None:
        self.source = source
        self.root = Path(source.root)
        self.problems: list[FileProblem] = []
        self.raw_id_map = raw_id_map(source.classes, source.ignore_index)

    def split(self, folder: str) -> tuple[list[Sample], SplitStatistics]:
        layout = self.source.layout
        images = self._by_stem(layout.images.replace("{split}", folder))
        masks = self._by_stem(layout.masks.replace("{split}", folder))
        for stem in sorted(images.keys() - masks.keys()):
            self._problem(images[stem], "image has no mask of the same name")
        for stem in sorted(masks.keys() - images.keys()):
            self._problem(masks[stem], "mask has no image of the same name")
        pixels = np.zeros(len(self.source.classes), dtype=np.int64)
        ignored = 0
        samples: list[Sample] = []
        for stem in sorted(images.keys() & masks.keys()):
            try:
                sample, counts, ignored_here = self._pair(stem, images[stem], masks[stem])
            except _BadFile as bad:
                self._problem(bad.path, bad.reason)
                continue
            samples.append(sample)
            pixels += counts
            ignored += ignored_here
        if not images and not masks:
            path = self.root / layout.images.replace("{split}", folder)
            self._problem(path, "no images found here")
        return samples, SplitStatistics(
            class_pixels=tuple(int(count) for count in pixels), ignored_pixels=ignored
        )

    def unlabelled(self) -> list[Sample]:
        folder = self.source.layout.unlabelled
        if folder is None:
            return []
        samples = []
        for stem, path in sorted(self._by_stem(folder).items()):
            try:
                height, width = self._image_size(path)
            except _BadFile as bad:
                self._problem(bad.path, bad.reason)
                continue
            samples.append(
                Sample(id=stem, image=self._entry(path), mask=None, height=height, width=width)
            )
        return samples

    def refuse_leaks(
        self,
        splits: Mapping[Any, tuple[list[Sample], SplitStatistics]],
        unlabelled: list[Sample],
    ) -> None:
        """A picture that is learned from and judged on makes every figure worthless.

        Only the pool may repeat train: there it is no news.
        """
        seen: dict[str, tuple[str, str]] = {}
        groups = {**{name: samples for name, (samples, _) in splits.items()}, "pool": unlabelled}
        for name, samples in groups.items():
            for sample in samples:
                other, path = seen.setdefault(sample.image.sha256, (name, sample.image.path))
                if other != name and {other, name} != {"train", "pool"}:
                    self._problem(
                        self.root / sample.image.path, f"the same image is in {other}: {path}"
                    )

    def _pair(
        self, stem: str, image_path: Path, mask_path: Path
    ) -> tuple[Sample, "np.ndarray[tuple[int], np.dtype[np.int64]]", int]:
        height, width = self._image_size(image_path)
        try:
            mask_HW = map_ids(read_mask(mask_path), self.raw_id_map)
        except Unreadable as error:
            raise _BadFile(mask_path, str(error)) from error
        if mask_HW.shape != (height, width):
            found = f"{mask_HW.shape[1]}x{mask_HW.shape[0]}"
            raise _BadFile(mask_path, f"mask is {found}, its image {width}x{height}")
        counts, ignored = count_ids(mask_HW, len(self.source.classes))
        sample = Sample(
            id=stem,
            image=self._entry(image_path),
            mask=self._entry(mask_path),
            height=height,
            width=width,
        )
        return sample, counts, ignored

    def _image_size(self, path: Path) -> tuple[int, int]:
        try:
            height, width, _ = read_image(path).shape
        except Unreadable as error:
            raise _BadFile(path, str(error)) from error
        return height, width

    def _by_stem(self, folder: str) -> dict[str, Path]:
        found: dict[str, Path] = {}
        for path in self._files(self.root / folder):
            if path.stem in found:
                self._problem(path, f"same name as {self._relative(found[path.stem])}")
            else:
                found[path.stem] = path
        return found

    def _files(self, folder: Path) -> Iterator[Path]:
        if not folder.is_dir():
            self._problem(folder, "no such folder")
            return
        for path in sorted(folder.iterdir()):
            if path.name.startswith("."):
                continue
            if path.suffix.lower() not in _SUFFIXES:
                self._problem(path, f"not an image file; {', '.join(FORMATS)} are read")
            elif not path.resolve().is_relative_to(self.root.resolve()):
                self._problem(path, "link that leads out of the dataset's folder")
            elif not path.is_file():
                self._problem(path, "not a regular file")
            else:
                yield path

    def _entry(self, path: Path) -> FileEntry:
        content = path.read_bytes()
        return FileEntry(
            path=self._relative(path), sha256=hashlib.sha256(content).hexdigest(), size=len(content)
        )

    def _problem(self, path: Path, reason: str) -> None:
        self.problems.append(FileProblem(self._relative(path), reason))

    def _relative(self, path: Path) -> str:
        return path.relative_to(self.root).as_posix()


class _BadFile(Exception):
    def __init__(self, path: Path, reason: str) -> None:
        self.path = path
        self.reason = reason

"""Which file belongs to which: what a layout finds before any picture is decoded."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from kdcore.data.reading import FORMATS
from kdcore.errors import FileProblem

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp", ".bmp"})
DEPTH_MAX = 16
FILE_BYTES_MAX = 2**30
_LITTER = frozenset({"thumbs.db", "desktop.ini"})


@dataclass(frozen=True)
class Pair:
    """An image with its mask; ``group`` holds what must stay in one split (a case, a video)."""

    id: str
    image: Path
    mask: Path
    group: str = ""
    origin: str = ""
    """Where the pair was converted from, for messages."""


@dataclass
class Folder:
    """The folder of a dataset, and everything found wrong below it."""

    root: Path
    problems: list[FileProblem] = field(default_factory=list)
    _refused: set[str] = field(default_factory=set)
    """Keys of refused files: their partners are not blamed for being alone."""

    def problem(self, path: Path | str, reason: str) -> None:
        """``path`` is shown relative to the root, with what cannot be printed escaped."""
        if isinstance(path, Path):
            path = self.relative(path)
        printable = path if path.isprintable() else ascii(path)[1:-1]
        self.problems.append(FileProblem(printable, reason))

    def relative(self, path: Path) -> str:
        return path.relative_to(self.root).as_posix()

    def holds(self, path: Path) -> bool:
        """Whether ``path`` really lies below the root, links followed."""
        with contextlib.suppress(OSError, RuntimeError):  # a loop of links
            return path.resolve().is_relative_to(self.root.resolve())
        return False

    def file(self, path: Path, *, bytes_max: int = FILE_BYTES_MAX) -> bool:
        """Whether ``path`` may be opened; says why where it may not."""
        reason = self._refusal(path, bytes_max)
        if reason is not None:
            self.problem(path, reason)
        return reason is None

    def by_key(
        self,
        folder: str,
        *,
        suffix: str = "",
        beside: tuple[str, ...] = (),
        recursive: bool = False,
    ) -> dict[str, Path]:
        """Image files of ``folder`` by their path below it without ``suffix`` and file ending.

        Files whose stem ends in one of ``beside`` are another layer of the dataset: passed over.
        """
        found: dict[str, Path] = {}
        base = self.root / folder
        for path in self._walk(base, depth=DEPTH_MAX if recursive else 1):
            stem = path.stem
            if any(other and other != suffix and stem.endswith(other) for other in beside):
                continue
            if path.suffix.lower() not in SUFFIXES:
                self.problem(path, f"not an image file; {', '.join(FORMATS)} are read")
            elif not stem.endswith(suffix) or stem == suffix:
                self.problem(path, f"the name does not end in {suffix}")
            else:
                key = (path.relative_to(base).parent / stem.removesuffix(suffix)).as_posix()
                if not self.file(path):
                    self._refused.add(key)
                elif key in found:
                    self.problem(path, f"same name as {self.relative(found[key])}")
                else:
                    found[key] = path
        return found

    def pairs(self, where: str, images: dict[str, Path], masks: dict[str, Path]) -> list[Pair]:
        """Images and masks of equal keys; what is left alone is a problem."""
        if not images and not masks:
            self.problem(self.root / where, "no images found here")
        for key in sorted(images.keys() - masks.keys() - self._refused):
            self.problem(images[key], "image has no mask of the same name")
        for key in sorted(masks.keys() - images.keys() - self._refused):
            self.problem(masks[key], "mask has no image of the same name")
        return [Pair(key, images[key], masks[key]) for key in sorted(images.keys() & masks.keys())]

    def lines(self, path: Path) -> list[str]:
        """The lines of a list file that are not empty; none, and a problem, where there is no list."""
        if not self.file(path):
            return []
        try:
            lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()]
        except UnicodeDecodeError:
            self.problem(path, "is no UTF-8 text")
            return []
        lines = [line for line in lines if line]
        if not lines:
            self.problem(path, "lists nothing")
        return lines

    def below(self, path: str) -> Path | None:
        """``path`` from inside a file of the dataset (untrusted) as one below the root."""
        parts = path.split("/")
        if path.startswith("/") or ".." in parts or not path.isprintable() or "\\" in path:
            return None
        return self.root / path

    def folder(self, path: Path) -> bool:
        """Whether ``path`` is a folder of the dataset; a problem where it is not."""
        there = path.is_dir()
        if there and self.holds(path):
            return True
        self.problem(
            path, "link that leads out of the dataset's folder" if there else "no such folder"
        )
        return False

    def _walk(self, folder: Path, *, depth: int) -> Iterator[Path]:
        if not self.folder(folder):
            return
        try:
            entries = sorted(folder.iterdir())
        except OSError as error:
            self.problem(folder, f"cannot be read: {error.strerror}")
            return
        for path in entries:
            if path.name.startswith(".") or path.name.lower() in _LITTER:
                continue
            if path.is_dir() and depth > 1:
                yield from self._walk(path, depth=depth - 1)
            elif path.is_dir() and depth == 1 and path.suffix.lower() not in SUFFIXES:
                self.problem(path, "folder where image files are expected")
            else:
                yield path

    def _refusal(self, path: Path, bytes_max: int) -> str | None:
        relative = self.relative(path)
        if not relative.isprintable() or "\\" in relative or len(relative) > 1024:
            return "the name cannot be used: backslashes, control characters or too long"
        if not self.holds(path):
            return "link that leads out of the dataset's folder"
        try:
            if not path.exists():
                return "no such file"
            if not path.is_file():
                return "not a regular file"
            if path.stat().st_size > bytes_max:
                return f"is larger than {bytes_max:,} bytes"
        except OSError as error:
            return f"cannot be read: {error.strerror}"
        return None

"""Hugging Face `datasets` parquet: encoded pictures in columns, written out as they are."""

from collections.abc import Iterator
from fnmatch import fnmatchcase
from io import BytesIO
from pathlib import Path
from typing import Any, Final

from PIL import Image

from kdcore.data.layouts.reading import NoPool, Places, Writer, at, needed
from kdcore.data.listing import Pair
from kdcore.data.reading import FORMATS
from kdcore.spec.layouts import ParquetLayout

FILE_BYTES_MAX = 64 * 2**30
PICTURE_BYTES_MAX = 2**28
ROW_GROUP_BYTES_MAX = 8 * 2**30
_BATCH: Final = 8
_ENDINGS: Final = {
    "PNG": ".png", "JPEG": ".jpg", "MPO": ".jpg", "TIFF": ".tif", "WEBP": ".webp", "BMP": ".bmp",
}  # fmt: skip


class Parquet(NoPool):
    def __init__(self, layout: ParquetLayout, places: Places) -> None:
        self._arrow = needed("pyarrow", layout.kind)
        self._parquet = needed("pyarrow.parquet", layout.kind)
        self._layout, self._source, self._made = layout, places.given, places.made

    def pairs(self, folder: str) -> list[Pair]:
        pattern = self._source.root / at(self._layout.files, folder)
        found = (
            [p for p in sorted(pattern.parent.iterdir()) if fnmatchcase(p.name, pattern.name)]
            if pattern.parent.is_dir() and self._source.holds(pattern.parent)
            else []
        )
        if not found:
            self._source.problem(pattern, "no such file")
        writer = Writer(self._made, folder)
        pairs = []
        for path in found:
            if not self._source.file(path, bytes_max=FILE_BYTES_MAX):
                continue
            try:
                for index, image, annotation in self._rows(path):
                    pair = self._pair(path, index, image, annotation, writer)
                    if pair is not None:
                        pairs.append(pair)
            except _Bad as bad:
                self._source.problem(path, str(bad))
            except (self._arrow.ArrowException, OSError, ValueError, KeyError) as error:
                self._source.problem(path, f"is no readable parquet file: {error}")
        return pairs

    def _rows(self, path: Path) -> Iterator[tuple[int, Any, Any]]:
        columns = [self._layout.image, self._layout.annotation]
        with self._parquet.ParquetFile(path) as file:
            for name in columns:
                if name not in file.schema_arrow.names:
                    raise _Bad(f"holds no column {name!a}, but {_shown(file)}")
            for group in range(file.num_row_groups):
                if file.metadata.row_group(group).total_byte_size > ROW_GROUP_BYTES_MAX:
                    raise _Bad(f"row group {group} is larger than {ROW_GROUP_BYTES_MAX:,} bytes")
            index = 0
            for batch in file.iter_batches(batch_size=_BATCH, columns=columns):
                for image, annotation in zip(*(batch[name] for name in columns), strict=True):
                    yield index, image.as_py(), annotation.as_py()
                    index += 1

    def _pair(
        self, path: Path, index: int, image: Any, annotation: Any, writer: Writer
    ) -> Pair | None:
        name, origin = f"{path.stem}_{index:06d}", f"{self._source.relative(path)} row {index}"
        written = []
        for kind, column, cell in (
            ("images", self._layout.image, image),
            ("masks", self._layout.annotation, annotation),
        ):
            try:
                content, ending = _picture(cell)
            except _Bad as bad:
                self._source.problem(origin, f"{column}: {bad}")
                return None
            target = writer.path(kind, name, ending)
            target.write_bytes(content)
            written.append(target)
        return Pair(name, written[0], written[1], origin=origin)


class _Bad(Exception):
    pass


def _shown(file: Any) -> str:
    return ", ".join(ascii(name) for name in file.schema_arrow.names[:8])


def _picture(cell: Any) -> tuple[bytes, str]:
    """The encoded picture, and the ending of its format. The scan decodes it."""
    content = cell.get("bytes") if isinstance(cell, dict) else cell
    if content is None and isinstance(cell, dict) and cell.get("path") is not None:
        raise _Bad("only the path of a picture; embed the files (`embed_external_files`)")
    if not isinstance(content, bytes) or not content:
        raise _Bad("no encoded picture")
    if len(content) > PICTURE_BYTES_MAX:
        raise _Bad(f"is larger than {PICTURE_BYTES_MAX:,} bytes")
    try:
        with Image.open(BytesIO(content), formats=FORMATS) as image:
            return content, _ENDINGS[image.format or ""]
    # Pillow's parsers raise whatever they trip over.
    except Exception as error:
        raise _Bad(f"cannot be decoded: {error}") from error

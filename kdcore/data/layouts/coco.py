"""COCO instances painted into masks of category ids."""

import json
import math
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
import numpy.typing as npt

from kdcore.data.layouts.reading import NoPool, Places, Writer, at, needed
from kdcore.data.listing import Pair
from kdcore.data.reading import Unreadable, read_image
from kdcore.spec.dataset import DatasetSource
from kdcore.spec.layouts import CocoLayout

JSON_BYTES_MAX = 2 * 2**30
POINTS_MAX = 1_000_000
"""Corners of all polygons of one annotation."""
IDS_MAX = 65534
CROWD = 65535


class Coco(NoPool):
    def __init__(self, layout: CocoLayout, places: Places, source: DatasetSource) -> None:
        self._coco = needed("pycocotools.mask", layout.kind)
        self._layout, self._source, self._made = layout, places.given, places.made
        known = source.raw_id_map()
        self._known = known.keys()
        # Crowd regions take an ignored value of the source, whatever that is.
        self._crowd = next((raw for raw, index in known.items() if index == 255), None)

    def pairs(self, folder: str) -> list[Pair]:
        path = self._source.root / at(self._layout.annotations, folder)
        if not self._source.file(path, bytes_max=JSON_BYTES_MAX):
            return []
        try:
            images, annotations = _read(path)
        except _Bad as bad:
            self._source.problem(path, str(bad))
            return []
        writer = Writer(self._made, folder)
        pairs: dict[str, Pair] = {}
        for key, entry in images.items():
            try:
                pair = self._pair(entry, annotations.get(key, []), folder, writer)
                if pair.id in pairs:
                    raise _Bad(f"two images are named {entry['file_name']!a}")
                pairs[pair.id] = pair
            except _Bad as bad:
                self._source.problem(path, f"image {key}: {bad}")
            except Unreadable as error:
                name = f"{at(self._layout.images, folder)}/{entry['file_name']}"
                self._source.problem(name, str(error))
        if not images:
            self._source.problem(path, "lists no images")
        return list(pairs.values())

    def _pair(
        self, entry: dict[str, Any], things: list[dict[str, Any]], folder: str,
        writer: Writer,
    ) -> Pair:  # fmt: skip
        name = entry.get("file_name")
        below = self._source.below(name) if isinstance(name, str) and name else None
        if below is None or not isinstance(name, str):
            raise _Bad(f"file_name {name!a} leaves its folder or cannot be used")
        base = self._source.root / at(self._layout.images, folder)
        image_path = base / below.relative_to(self._source.root)
        if not self._source.file(image_path):
            raise _Bad(f"{name!a} cannot be used")
        image_HWC = read_image(image_path)
        height, width = image_HWC.shape[:2]
        if (entry.get("height", height), entry.get("width", width)) != (height, width):
            raise _Bad(
                f"{name} is {width}x{height}, not {entry.get('width')}x{entry.get('height')} as listed"
            )
        mask_HW = self._painted(things, height, width)
        stem = str(Path(name).with_suffix("")).replace("/", "_")
        origin = self._source.relative(image_path)
        return writer.pair(stem, image_HWC, mask_HW, origin=origin)

    def _painted(
        self, things: list[dict[str, Any]], height: int, width: int
    ) -> npt.NDArray[np.uint16]:
        layers: list[tuple[bool, int, int, npt.NDArray[np.bool_]]] = []
        for thing in things:
            shown = f"annotation {thing.get('id')!a}"
            try:
                crowd = bool(thing.get("iscrowd"))
                inside_HW = _inside(self._coco, thing.get("segmentation"), height, width)
            except _Bad as bad:
                raise _Bad(f"{shown}: {bad}") from None
            category = thing.get("category_id")
            if crowd and self._crowd is not None:
                category = self._crowd
            if not _is_count(category) or category > CROWD or category not in self._known:
                raise _Bad(f"{shown} has the category {category!a}, which no class has")
            layers.append((not crowd, -int(inside_HW.sum()), int(category), inside_HW))
        mask_HW = np.zeros((height, width), np.uint16)
        # Crowds first, then from large to small: what is small would be covered otherwise.
        for _, _, category, inside_HW in sorted(layers, key=lambda layer: layer[:2]):
            mask_HW[inside_HW] = category
        return mask_HW


class _Bad(Exception):
    pass


def _read(path: Path) -> tuple[dict[int, dict[str, Any]], dict[int, list[dict[str, Any]]]]:
    try:
        document = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise _Bad(f"is no JSON: {error}") from error
    if not isinstance(document, dict):
        raise _Bad("is no COCO file: a mapping with images and annotations is expected")
    listed = [document.get(name) for name in ("images", "annotations")]
    if not all(isinstance(items, list) for items in listed):
        raise _Bad("is no COCO file: the lists `images` and `annotations` are expected")
    images: dict[int, dict[str, Any]] = {}
    for entry in listed[0] or []:
        if not isinstance(entry, dict) or not _is_count(entry.get("id")):
            raise _Bad("an image without a whole number as id")
        if entry["id"] in images:
            raise _Bad(f"the image id {entry['id']} is given twice")
        images[entry["id"]] = entry
    annotations: dict[int, list[dict[str, Any]]] = {}
    for thing in listed[1] or []:
        if not isinstance(thing, dict) or thing.get("image_id") not in images:
            raise _Bad("an annotation of an image that is not listed")
        annotations.setdefault(thing["image_id"], []).append(thing)
    return images, annotations


def _is_count(value: Any) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _inside(coco: Any, segmentation: Any, height: int, width: int) -> npt.NDArray[np.bool_]:
    if isinstance(segmentation, dict):
        return _from_runs(segmentation, height, width)
    if not isinstance(segmentation, list) or not segmentation:
        raise _Bad("has no segmentation")
    polygons = [_clamped(polygon, height, width) for polygon in segmentation]
    if sum(map(len, polygons)) > 2 * POINTS_MAX:
        raise _Bad(f"has more than {POINTS_MAX:,} corners")
    runs = coco.merge(coco.frPyObjects(polygons, height, width))
    return _from_runs({**runs, "counts": runs["counts"].decode()}, height, width)


def _clamped(polygon: Any, height: int, width: int) -> list[float]:
    """Its corners inside the image: pycocotools computes in C with what it is given."""
    if not isinstance(polygon, list) or len(polygon) < 6 or len(polygon) % 2:
        raise _Bad("a polygon needs three or more corners, x and y of each")
    if not all(isinstance(v, int | float) and math.isfinite(v) for v in polygon):
        raise _Bad("a polygon has corners that are no finite numbers")
    ends = (float(width), float(height))
    return [min(max(float(v), 0.0), ends[i % 2]) for i, v in enumerate(polygon)]


def _from_runs(runs: dict[str, Any], height: int, width: int) -> npt.NDArray[np.bool_]:
    """Run lengths, column by column, first of what is outside; decoded here, with every sum checked."""
    if runs.get("size") != [height, width]:
        raise _Bad(f"run lengths for {runs.get('size')!a} in an image of {[height, width]}")
    counts = runs.get("counts")
    lengths = _unpacked(counts) if isinstance(counts, str) else counts
    if not isinstance(lengths, list) or not all(_is_count(length) for length in lengths):
        raise _Bad("run lengths that are no whole numbers from 0 on")
    if sum(lengths) != height * width:
        raise _Bad(f"run lengths of {sum(lengths)} pixels in an image of {height * width}")
    flat = np.repeat(np.arange(len(lengths)) % 2 == 1, lengths)
    return flat.reshape((height, width), order="F")


def _unpacked(counts: str) -> list[int]:
    """COCO's text form: six bits a character, lengths as differences to the one before last."""
    lengths: list[int] = []
    value = shift = 0
    for character in counts:
        bits = ord(character) - 48
        if not 0 <= bits < 64 or shift > 30:
            raise _Bad("run lengths that cannot be decoded")
        value |= (bits & 0x1F) << shift
        shift += 5
        if bits & 0x20:
            continue
        if bits & 0x10:
            value -= 1 << shift
        lengths.append(value + (lengths[-2] if len(lengths) > 2 else 0))
        value = shift = 0
    if shift:
        raise _Bad("run lengths that are cut off")
    return lengths

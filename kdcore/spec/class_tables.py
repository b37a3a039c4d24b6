"""The classes that published datasets come with, for sources that do not list their own."""

from typing import Any, Final

Table = tuple[dict[str, Any], ...]


def palette(count: int) -> tuple[tuple[int, int, int], ...]:
    """The first ``count`` colours of the PASCAL VOC colour map."""
    return tuple(_voc_colour(index) for index in range(count))


def _voc_colour(index: int) -> tuple[int, int, int]:
    red = green = blue = 0
    for bit in range(8):
        red |= (index & 1) << (7 - bit)
        green |= (index >> 1 & 1) << (7 - bit)
        blue |= (index >> 2 & 1) << (7 - bit)
        index >>= 3
    return red, green, blue


def _table(*rows: tuple[str, tuple[int, int, int]]) -> Table:
    return tuple({"name": name, "color": color} for name, color in rows)


_VOC_NAMES = (
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair",
    "cow", "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa",
    "train", "tvmonitor",
)  # fmt: skip
VOC: Final = _table(*zip(_VOC_NAMES, palette(21), strict=True))

CITYSCAPES: Final = _table(
    ("road", (128, 64, 128)),
    ("sidewalk", (244, 35, 232)),
    ("building", (70, 70, 70)),
    ("wall", (102, 102, 156)),
    ("fence", (190, 153, 153)),
    ("pole", (153, 153, 153)),
    ("traffic light", (250, 170, 30)),
    ("traffic sign", (220, 220, 0)),
    ("vegetation", (107, 142, 35)),
    ("terrain", (152, 251, 152)),
    ("sky", (70, 130, 180)),
    ("person", (220, 20, 60)),
    ("rider", (255, 0, 0)),
    ("car", (0, 0, 142)),
    ("truck", (0, 0, 70)),
    ("bus", (0, 60, 100)),
    ("train", (0, 80, 100)),
    ("motorcycle", (0, 0, 230)),
    ("bicycle", (119, 11, 32)),
)
CITYSCAPES_LABEL_IDS: Final = (
    7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33,
)  # fmt: skip
"""labelIds of the 19 evaluated classes, in the order of their train ids."""
CITYSCAPES_VOID_IDS: Final = tuple(i for i in range(34) if i not in CITYSCAPES_LABEL_IDS)

IDD_LEVEL_1: Final = _table(
    ("drivable", (128, 64, 128)),
    ("non-drivable", (244, 35, 232)),
    ("living things", (220, 20, 60)),
    ("vehicles", (0, 0, 142)),
    ("roadside objects", (190, 153, 153)),
    ("far objects", (70, 70, 70)),
    ("sky", (70, 130, 180)),
)
IDD_LEVEL_3: Final = _table(
    ("road", (128, 64, 128)),
    ("drivable fallback", (81, 0, 81)),
    ("sidewalk", (244, 35, 232)),
    ("non-drivable fallback", (152, 251, 152)),
    ("person/animal", (220, 20, 60)),
    ("rider", (255, 0, 0)),
    ("motorcycle", (0, 0, 230)),
    ("bicycle", (119, 11, 32)),
    ("autorickshaw", (255, 204, 54)),
    ("car", (0, 0, 142)),
    ("truck", (0, 0, 70)),
    ("bus", (0, 60, 100)),
    ("vehicle fallback", (136, 143, 153)),
    ("curb", (220, 190, 40)),
    ("wall", (102, 102, 156)),
    ("fence", (190, 153, 153)),
    ("guard rail", (180, 165, 180)),
    ("billboard", (174, 64, 67)),
    ("traffic sign", (220, 220, 0)),
    ("traffic light", (250, 170, 30)),
    ("pole", (153, 153, 153)),
    ("obs-str-bar-fallback", (169, 187, 214)),
    ("building", (70, 70, 70)),
    ("bridge/tunnel", (150, 100, 100)),
    ("vegetation", (107, 142, 35)),
    ("sky", (70, 130, 180)),
)

CAMVID: Final = _table(
    ("Sky", (128, 128, 128)),
    ("Building", (128, 0, 0)),
    ("Pole", (192, 192, 128)),
    ("Road", (128, 64, 128)),
    ("Pavement", (60, 40, 222)),
    ("Tree", (128, 128, 0)),
    ("SignSymbol", (192, 128, 128)),
    ("Fence", (64, 64, 128)),
    ("Car", (64, 0, 128)),
    ("Pedestrian", (64, 64, 0)),
    ("Bicyclist", (0, 128, 192)),
)

BRATS_WHOLE: Final = _table(("background", (0, 0, 0)), ("whole tumour", (250, 204, 21)))
BRATS_SUBREGIONS: Final = _table(
    ("background", (0, 0, 0)),
    ("necrotic core", (239, 68, 68)),
    ("oedema", (34, 197, 94)),
    ("enhancing tumour", (250, 204, 21)),
)


def usual(layout: dict[str, Any]) -> dict[str, Any]:
    """What a source of this layout means where it says nothing: classes, splits, ignored values."""
    train_val = {"splits": {"train": "train", "val": "val"}}
    match layout.get("kind", "folders"):
        case "voc":
            return {"classes": VOC, **train_val}
        case "cityscapes" if layout.get("labels") == "labelIds":
            classes = tuple(
                {**entry, "raw_ids": (raw,)}
                for entry, raw in zip(CITYSCAPES, CITYSCAPES_LABEL_IDS, strict=True)
            )
            return {"classes": classes, "ignored_ids": CITYSCAPES_VOID_IDS, **train_val}
        case "cityscapes":
            return {"classes": CITYSCAPES, **train_val}
        case "idd":
            return {
                "classes": IDD_LEVEL_3 if layout.get("level") == 3 else IDD_LEVEL_1,
                **train_val,
            }
        case "camvid":
            return {"classes": CAMVID, "ignore_index": 11}
        case "brats" | "hdf5":
            whole = layout.get("target", "whole") == "whole"
            return {"classes": BRATS_WHOLE if whole else BRATS_SUBREGIONS}
    return {}

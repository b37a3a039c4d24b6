"""Request bodies of the tests."""

from pathlib import Path
from typing import Any

Json = dict[str, Any]
MODEL: Json = {"arch": "unet", "encoder": "resnet18"}
BIG: Json = {"arch": "unet", "encoder": "resnet50"}
TRAIN: Json = {"size": [64, 64], "batch": 2, "steps": 10}


def source(root: Path | str, **changes: Any) -> Json:
    return {
        "name": "tiny",
        "root": str(root),
        "classes": [{"name": "background"}, {"name": "cell"}],
        **changes,
    }


def training(**changes: Any) -> Json:
    return {
        "kind": "training",
        "name": "plain",
        "dataset": "tiny",
        "model": MODEL,
        "train": TRAIN,
        **changes,
    }


def distillation(**changes: Any) -> Json:
    return {
        "kind": "distillation",
        "name": "demo",
        "dataset": "tiny@latest",
        "teachers": [{"name": "big", "train": {"model": BIG, "train": TRAIN}}],
        "student": {"model": MODEL},
        "objective": [{"kind": "ce"}, {"kind": "kd", "temperature": 2}],
        "train": TRAIN,
        **changes,
    }

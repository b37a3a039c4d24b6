"""A small real dataset on disk, and run directories made from it."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from kdcore.data.scan import scan
from kdcore.spec.dataset import DatasetManifest, DatasetSource
from kdcore.spec.job import FitJob
from kdcore.spec.rundir import DATASET, DATASET_MANIFEST, SPEC

STUDENT = {
    "arch": "unet",
    "encoder": "tu-mobilenetv3_small_050",
    "options": {"decoder_channels": [16, 8, 8, 8, 8]},
}


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> Iterator[None]:
    """Here and in child processes: waiting OpenMP threads burn the cores that others need."""
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        yield


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> DatasetSource:
    """8 train, 3 val, 3 test images of 48x40 with discs and frames, 6 images without masks."""
    root = tmp_path_factory.mktemp("dataset")
    rng = np.random.default_rng(0)
    for split, count in (("train", 8), ("val", 3), ("test", 3)):
        for index in range(count):
            write_sample(root / split, f"{index:03d}", rng)
    for index in range(6):
        write_sample(root / "pool", f"{index:03d}", rng)
    return DatasetSource.model_validate(
        {
            "name": "shapes",
            "root": str(root),
            "layout": {"kind": "folders", "unlabelled": "pool/images"},
            "classes": [{"name": "ground"}, {"name": "disc"}, {"name": "rim"}],
        }
    )


def write_sample(folder: Path, name: str, rng: np.random.Generator) -> None:
    height, width = 40, 48
    rows, columns = np.mgrid[:height, :width]
    distance = np.hypot(rows - rng.integers(12, 28), columns - rng.integers(12, 36))
    mask = np.zeros((height, width), np.uint8)
    mask[distance < 9] = 2
    mask[distance < 7] = 1
    image = rng.integers(0, 60, (height, width, 3)) + 60 * mask[..., None]
    for kind, pixels in (("images", image.astype(np.uint8)), ("masks", mask)):
        (folder / kind).mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / kind / f"{name}.png")


@pytest.fixture(scope="session")
def manifest(source: DatasetSource) -> DatasetManifest:
    return scan(source)


FitSpec = dict[str, Any]
LayOut = Callable[..., Path]


@pytest.fixture
def fit_spec(manifest: DatasetManifest) -> FitSpec:
    """A fit job of 20 steps as JSON, to be changed by the test."""
    return {
        "kind": "fit",
        "dataset": manifest.fingerprint(),
        "model": STUDENT,
        "objective": [{"kind": "ce"}],
        "train": {
            "size": [32, 32], "batch": 2, "steps": 20, "ema": 0.9,
            "evaluate_every": 10, "checkpoint_every": 5,
        },
        "seed": 3,
    }  # fmt: skip


@pytest.fixture
def lay_out(source: DatasetSource, manifest: DatasetManifest, tmp_path: Path) -> LayOut:
    """``lay_out("name", spec, {"inputs/models/x": folder})`` makes a run directory."""

    def make(name: str, spec: FitSpec, inputs: dict[str, Path] | None = None) -> Path:
        run = tmp_path / name
        (run / DATASET).parent.mkdir(parents=True)
        (run / DATASET).mkdir()
        for path in Path(source.root).iterdir():
            (run / DATASET / path.name).symlink_to(path)
        (run / DATASET_MANIFEST).write_text(manifest.model_dump_json())
        for path, folder in (inputs or {}).items():
            (run / path).parent.mkdir(parents=True, exist_ok=True)
            (run / path).symlink_to(folder)
        job = FitJob.model_validate(spec)
        (run / SPEC).write_text(job.model_dump_json(by_alias=True))
        return run

    return make

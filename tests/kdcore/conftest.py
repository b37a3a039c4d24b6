"""A small real dataset on disk, and run directories made from it."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from kdcore.data.scan import scan
from kdcore.spec.dataset import DatasetManifest, DatasetSource
from kdcore.spec.job import FitJob
from kdcore.spec.rundir import DATASET, DATASET_MANIFEST, SPEC
from tests.shapes import STUDENT, make_shapes


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> Iterator[None]:
    """Here and in child processes: waiting OpenMP threads burn the cores that others need."""
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        yield


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> DatasetSource:
    return make_shapes(tmp_path_factory.mktemp("dataset"))


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

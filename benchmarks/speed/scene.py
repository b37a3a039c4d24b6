"""The files that all arms of a measurement share: images and masks, teachers, the student's start."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn

from benchmarks.speed.workload import Workload
from kdcore import __version__
from kdcore.data.batches import Batch, batches
from kdcore.data.samples import Samples
from kdcore.data.scan import scan
from kdcore.models.network import SegmentationModel, build_model
from kdcore.models.store import ModelCard, load_model, save_model
from kdcore.spec.dataset import IGNORE, DatasetManifest, DatasetSource
from kdcore.spec.job import TeacherInput
from kdcore.spec.model import ModelSpec
from kdcore.spec.rundir import DATASET, DATASET_MANIFEST, MODEL_INPUTS
from kdcore.spec.train import AdamW, Augment, TrainSpec

ENDLESS = 1_000_000
"""Steps of a training that is measured for a while and never ends by itself."""
STUDENT = f"{MODEL_INPUTS}/student"
"""Model folder of the weights at which every arm starts, below the scene's root."""
KEPT_BATCHES = 20
"""Batches that arms outside kdcore hold ready; they go round in them, in kdcore's order."""
_IGNORED_SHARE, _CELL = 0.05, 16
_LOGIT_STD = 3.0


@dataclass(frozen=True)
class Scene:
    """``root``: laid out as a run directory."""

    root: Path
    workload: Workload

    @property
    def manifest(self) -> DatasetManifest:
        return DatasetManifest.model_validate_json((self.root / DATASET_MANIFEST).read_bytes())

    @property
    def teacher_inputs(self) -> tuple[TeacherInput, ...]:
        return tuple(
            TeacherInput(name=name, path=f"{MODEL_INPUTS}/{name}")
            for name in self.workload.teachers
        )

    def samples(self, split: str = "train") -> Samples:
        """Decoded and in memory, as they are from the second epoch on."""
        manifest = self.manifest
        samples = Samples(self.root / DATASET, manifest, manifest.splits[split])
        for index in range(len(samples)):
            samples[index]
        return samples

    def files(self) -> list[tuple[Path, Path]]:
        """Image and mask of each training sample."""
        pairs = []
        for sample in self.manifest.splits["train"]:
            assert sample.mask is not None, "every sample here has one"
            folder = self.root / DATASET
            pairs.append((folder / sample.image.path, folder / sample.mask.path))
        return pairs

    def teacher(self, name: str) -> SegmentationModel:
        return load_model(self.root / MODEL_INPUTS / name)[0]

    def student(self) -> SegmentationModel:
        """In train mode, at the weights at which every arm starts."""
        model = load_model(self.root / STUDENT)[0]
        return model.train()

    def train_spec(self, *, views: int | None = None) -> TrainSpec:
        """Everything else is left at its default."""
        workload = self.workload
        still = Augment(scale=(1, 1), horizontal_flip=False, jitter=0)
        return TrainSpec(
            size=(workload.size, workload.size),
            batch=workload.batch,
            steps=ENDLESS,
            optimizer=AdamW(lr=workload.lr, weight_decay=0),
            schedule="constant",
            precision=workload.precision,
            memory_format=workload.memory_format,
            augment=still if workload.source == "memory" else Augment(),
            views=views,
            evaluate_every=ENDLESS,
        )

    def batches(self, count: int = KEPT_BATCHES) -> Iterator[Batch]:
        """The first ``count`` that kdcore trains on."""
        stream = batches(
            self.samples(), None, self.train_spec(), share=0, seed=self.workload.seed, start=0
        )
        return islice(stream, count)


def make_scene(root: Path, workload: Workload) -> Scene:
    """Random networks and images of the seed; the same workload makes the same files."""
    _write_images(root / DATASET, workload)
    manifest = scan(
        DatasetSource.model_validate(
            {
                "name": "random",
                "root": str(root / DATASET),
                "splits": {"train": "train", "val": "val"},
                "classes": [{"name": f"class {index}"} for index in range(workload.classes)],
            }
        )
    )
    (root / DATASET_MANIFEST).write_text(manifest.model_dump_json())
    torch.manual_seed(workload.seed)
    for name, spec in workload.teachers.items():
        _save_network(root / MODEL_INPUTS / name, spec, workload, manifest, sure=True)
    _save_network(root / STUDENT, workload.student, workload, manifest, sure=False)
    return Scene(root, workload)


def _save_network(
    folder: Path, spec: ModelSpec, workload: Workload, manifest: DatasetManifest, *, sure: bool
) -> None:
    model = build_model(spec, workload.classes)
    if sure:
        _make_sure(model)
    card = ModelCard(
        model=spec, classes=manifest.classes, dataset=manifest.fingerprint(),
        size=(workload.size, workload.size), step=0, metrics={}, kdcore=__version__,
    )  # fmt: skip
    save_model(model, card, folder)


@torch.no_grad()
def _make_sure(model: SegmentationModel) -> None:
    """Logits with the spread of a trained network's: of a random one's the KL is all but 0."""
    last = [
        module
        for module in model.net.modules()
        if isinstance(module, nn.Conv2d) and module.out_channels == model.classes
    ][-1]
    logits_NCHW = model.eval()(torch.rand(1, 3, 64, 64))
    for parameter in last.parameters():
        parameter.mul_(_LOGIT_STD / logits_NCHW.std())


def _write_images(folder: Path, workload: Workload) -> None:
    """Smooth colours and blocks of classes, a part of them ignored; JPEG on disk, PNG for memory."""
    rng = np.random.default_rng(workload.seed)
    height, width = workload.image_size
    cells = (-(-height // _CELL), -(-width // _CELL))
    image_suffix = "png" if workload.source == "memory" else "jpg"
    for split, count in (("train", workload.images), ("val", 1)):
        for kind in ("images", "masks"):
            (folder / split / kind).mkdir(parents=True, exist_ok=True)
        for index in range(count):
            colours = rng.integers(0, 256, (*cells, 3), dtype=np.uint8)
            image = Image.fromarray(colours).resize((width, height), Image.Resampling.BICUBIC)
            image.save(folder / split / "images" / f"{index:04d}.{image_suffix}")
            classes = rng.integers(0, workload.classes, cells, dtype=np.uint8)
            classes[rng.random(cells) < _IGNORED_SHARE] = IGNORE
            mask = Image.fromarray(classes).resize((width, height), Image.Resampling.NEAREST)
            mask.save(folder / split / "masks" / f"{index:04d}.png")

"""A student and two wider teachers, all untrained."""

import pytest
import torch

from kdcore.distill.teachers import Teacher
from kdcore.models.network import SegmentationModel, build_model
from kdcore.models.store import ModelCard
from kdcore.spec.dataset import ClassEntry
from kdcore.spec.model import ModelSpec
from tests.shapes import STUDENT

ENTRIES = tuple(ClassEntry(name=name, color=(0, 0, 0)) for name in ("sky", "road", "tree"))
WIDER = ModelSpec.model_validate({**STUDENT, "encoder": "tu-mobilenetv3_small_075"})


@pytest.fixture(scope="module")
def student() -> SegmentationModel:
    torch.manual_seed(0)
    return build_model(ModelSpec.model_validate(STUDENT), 3).eval()


@pytest.fixture(scope="module")
def teachers() -> list[Teacher]:
    torch.manual_seed(1)
    made = []
    for name, iou in (("one", 0.5), ("two", 0.25)):
        card = ModelCard(
            model=WIDER, classes=ENTRIES, dataset="0" * 64, size=(32, 32), step=1,
            metrics={"val/iou/sky": iou, "val/iou/road": 0.1}, kdcore="0",
        )  # fmt: skip
        made.append(Teacher(name, 1.0, build_model(WIDER, 3).requires_grad_(False).eval(), card))
    return made

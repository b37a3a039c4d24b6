"""torchdistill's box on the same modules and loader as A2, under autocast."""

import logging
import warnings

import torch
from torch import Tensor

from benchmarks.speed.arms.plain import Plain
from benchmarks.speed.scene import Scene
from kdcore.spec.dataset import IGNORE

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from torchdistill.core.distillation import get_distillation_box
    from torchdistill.losses import high_level, mid_level  # noqa: F401  (they register themselves)

_NATIVE = "native"


class Torchdistill(Plain):
    """Its KL has no mask: ignored pixels count. `batchmean` on NCHW is H · W times the mean over
    pixels, which its weight takes back.
    """

    def __init__(self, scene: Scene, device: torch.device) -> None:
        super().__init__(scene, device, competent=True)
        logging.getLogger("torchdistill").setLevel(logging.WARNING)

    def prepare(self) -> None:
        frozen = {"forward_proc": "forward_batch_only", "requires_grad": False}
        hooked = {"forward_proc": "forward_batch_only", "forward_hook": {"output": [_NATIVE]}}
        train = {
            "num_epochs": 1,
            "teacher": {**hooked, **frozen},
            "student": hooked,
            "optimizer": {
                "key": "AdamW",
                "kwargs": {"lr": self.scene.workload.lr, "weight_decay": 0},
            },
            "criterion": {"key": "WeightedSumLoss", "kwargs": {"sub_terms": self._terms()}},
        }
        self.box = get_distillation_box(
            self.teacher, self.student, {}, train, self.device, None, False, 1.0
        )
        self.box.pre_epoch_process(epoch=0)

    def train_step(self, images_NCHW: Tensor, labels_NHW: Tensor) -> float:
        images_NCHW, labels_NHW = self.on_device(images_NCHW, labels_NHW)
        with torch.autocast(self.device.type, torch.bfloat16):
            loss = self.box.forward_process(images_NCHW, labels_NHW, supp_dict={})
        self.box.post_forward_process(loss=loss)
        return float(loss.item())

    def _terms(self) -> dict[str, object]:
        workload = self.scene.workload
        where = "." if workload.kl_grid == "labels" else _NATIVE
        with torch.no_grad():
            side = workload.size
            size = self.student.native(torch.zeros(1, 3, side, side, device=self.device)).shape
        pixels = workload.size**2 if where == "." else size[-2] * size[-1]
        kd = {
            "key": "KDLoss",
            "kwargs": {
                "student_module_path": where, "student_module_io": "output",
                "teacher_module_path": where, "teacher_module_io": "output",
                "temperature": workload.temperature, "alpha": 0, "reduction": "batchmean",
            },
        }  # fmt: skip
        # Without the labels its KL comes without τ².
        weight = workload.kd_weight * workload.temperature**2 / pixels
        return {
            "ce": {
                "criterion": {
                    "key": "CrossEntropyLoss",
                    "kwargs": {"ignore_index": IGNORE},
                },
                "criterion_wrapper": {
                    "key": "SimpleLossWrapper",
                    "kwargs": {
                        "input": {"is_from_teacher": False, "module_path": ".", "io": "output"},
                        "target": {"uses_label": True},
                    },
                },
                "weight": 1.0,
            },
            "kd": {"criterion": kd, "weight": weight},
        }

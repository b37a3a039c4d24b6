"""The loop that people write (A), and what somebody makes of it who knows torch (A2)."""

from collections.abc import Callable, Iterable
from os import cpu_count

import torch
from torch import Tensor

from benchmarks.speed.arms.plain_data import Data, FromDisk, InMemory, Pair
from benchmarks.speed.arms.plain_loss import Terms, plain_loss
from benchmarks.speed.arms.published import AtImageSize, Together, named_gradients, published
from benchmarks.speed.device import allow_tf32
from benchmarks.speed.scene import Scene

_WORKERS, _WORKERS_COMPETENT = 4, 12


class Plain:
    """A: fp32, 4 workers, the loss read at every step. ``competent`` is A2: also bf16 autocast, TF32,
    channels_last, pinned memory and 12 workers, or as many as there are cores.
    """

    def __init__(self, scene: Scene, device: torch.device, *, competent: bool) -> None:
        self.scene, self.device, self.competent = scene, device, competent
        self.step = 0
        pinned = competent and device.type == "cuda"
        workers = min(_WORKERS_COMPETENT, cpu_count() or 1) if competent else _WORKERS
        self.data: Data = (
            InMemory(scene, pinned=pinned)
            if scene.workload.source == "memory"
            else FromDisk(scene, workers=workers, pinned=pinned)
        )

    @property
    def settings(self) -> dict[str, str]:
        if not self.competent:
            return {"precision": "fp32"}
        return {"precision": "bf16", "memory_format": "channels_last"}

    def load_models(self) -> None:
        if self.competent:
            allow_tf32(self.device, allowed=True)
        scene = self.scene
        names = scene.workload.teachers
        teachers = Together([published(scene.teacher(name)) for name in names])
        self.teacher = self._placed(AtImageSize(teachers)).eval()
        self.student = self._placed(AtImageSize(published(scene.student()))).train()
        self.prepare()
        # Dropout of all arms begins alike.
        torch.manual_seed(scene.workload.seed)

    def prepare(self) -> None:
        """What the steps need beside the models."""
        self.optimizer = torch.optim.AdamW(
            self.student.parameters(), lr=self.scene.workload.lr, weight_decay=0
        )

    def train(self, steps: int, done: Callable[[], None]) -> list[float]:
        losses = []
        for images, labels in self._batches(steps):
            losses.append(self.train_step(images, labels))
            done()
        self.step += steps
        return losses

    def close(self) -> None:
        """Nothing runs between the steps."""

    def train_step(self, images_NCHW: Tensor, labels_NHW: Tensor) -> float:
        images_NCHW, labels_NHW = self.on_device(images_NCHW, labels_NHW)
        terms = self.loss(images_NCHW, labels_NHW)
        self.optimizer.zero_grad()
        terms.total.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        return terms.total.item()

    def loss(self, images_NCHW: Tensor, labels_NHW: Tensor) -> Terms:
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.competent):
            with torch.no_grad():
                teacher_NCHW = self.teacher.native(images_NCHW)
            student_NCHW = self.student.native(images_NCHW)
        return plain_loss(student_NCHW, teacher_NCHW, labels_NHW, self.scene.workload)

    def gradients(self) -> dict[str, Tensor]:
        """After `loss`'s backward, by the names of kdcore."""
        return named_gradients(self.student.native)

    def on_device(self, images_NCHW: Tensor, labels_NHW: Tensor) -> Pair:
        images_NCHW = images_NCHW.to(self.device, non_blocking=self.competent)
        if self.competent:
            images_NCHW = images_NCHW.contiguous(memory_format=torch.channels_last)
        return images_NCHW, labels_NHW.to(self.device, non_blocking=self.competent)

    def _placed(self, net: AtImageSize) -> AtImageSize:
        net.to(self.device)
        # Parameters of four dimensions alone change, which the types of torch do not say.
        return net.to(memory_format=torch.channels_last) if self.competent else net

    def _batches(self, steps: int) -> Iterable[Pair]:
        return self.data.stream(self.step, steps)

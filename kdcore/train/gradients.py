"""The gradients of a batch: in one piece, in parts where memory is short, over several ranks."""

import functools
import operator
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from kdcore.data.batches import Batch
from kdcore.distill.lesson import Lesson
from kdcore.distill.objective import Objective, Total
from kdcore.errors import OutOfMemory
from kdcore.models.network import SegmentationModel
from kdcore.ranks import ALONE, Ranks
from kdcore.timing import part
from kdcore.train.batch_norm import has_batch_norm

PARTS_MOST = 2

Refuse = Callable[[str], OutOfMemory]
"""Makes of the device's words what a run fails with."""


def refuse(lack: str) -> OutOfMemory:
    return OutOfMemory(lack, field="train.batch", remedy="a smaller batch or crop")


class Gradients:
    """Leaves in each parameter's ``grad`` that of the loss of the batch of all ``ranks`` together.

    When the device has no memory for a batch, this and all later ones go through in two parts whose
    gradients are added up; ``parts`` says so and belongs into a checkpoint. The losses that are
    means over pixels or images stay what they are (`Objective.loss`); batch norm sees the parts.
    """

    def __init__(
        self,
        model: SegmentationModel,
        objective: Objective,
        *,
        half: bool,
        warned: Callable[[str, str], None],
        refuse: Refuse = refuse,
        ranks: Ranks = ALONE,
    ) -> None:
        self.parts = 1
        self._model, self._objective, self._half = model, objective, half
        self._warned, self._refuse, self._ranks = warned, refuse, ranks
        self._pass: nn.Module = _Pass(model, objective)
        if ranks.count > 1:
            # Terms leave out what they cannot use, such as an adapter where no pixel is valid.
            self._pass = DistributedDataParallel(self._pass, find_unused_parameters=True)

    def of(self, batch: Batch, step: int) -> Total:
        """The loss and the terms of this rank's batch (`Objective.loss`); parameters get gradients.

        Raises: OutOfMemory, when the parts do not fit either or there cannot be any.
        """
        try:
            return self._backward(batch, step)
        except torch.OutOfMemoryError as error:
            # After this block its frames, and with them the activations, are gone.
            lack = str(error)
        self._split(batch, step, lack)
        try:
            return self._backward(batch, step)
        except torch.OutOfMemoryError as error:
            raise self._refuse(str(error)) from error

    def _backward(self, batch: Batch, step: int) -> Total:
        self._pass.zero_grad(set_to_none=True)
        if self.parts == 1:
            return self._one(batch, step, None)
        with self._autocast(batch.images_NCHW):
            whole = self._objective.lesson(batch, asked_in=self.parts)
        totals = (
            self._one(whole.part(index, self.parts), step, whole) for index in range(self.parts)
        )
        return functools.reduce(operator.add, totals)

    def _one(self, given: Batch | Lesson, step: int, whole: Lesson | None) -> Total:
        images_NCHW = given.batch.images_NCHW if isinstance(given, Lesson) else given.images_NCHW
        with self._autocast(images_NCHW):
            loss, terms = self._pass(given, step, whole)
        # Over the ranks gradients are averaged, and they are parts of one sum.
        with part("backward"):
            (loss * self._ranks.count if self._ranks.count > 1 else loss).backward()
        return Total(loss.detach(), terms)

    def _split(self, batch: Batch, step: int, lack: str) -> None:
        # One rank alone cannot: the others are waiting for it in the middle of the step.
        alone = self._ranks.count == 1
        least = 2 if has_batch_norm(self._model) else 1
        if self.parts > 1 or not alone or not batch.splits(PARTS_MOST, least=least):
            raise self._refuse(lack)
        self.parts = PARTS_MOST
        if batch.images_NCHW.is_cuda:
            torch.cuda.empty_cache()
        self._warned(
            "batch_split",
            f"out of memory at step {step}: from here on each batch goes through in {self.parts} "
            f"parts, whose gradients are added up ({lack})",
        )

    def _autocast(self, images_NCHW: Tensor) -> torch.autocast:
        return torch.autocast(images_NCHW.device.type, torch.bfloat16, enabled=self._half)


class _Pass(nn.Module):
    """Student and objective as one module, the unit of which gradients are exchanged."""

    def __init__(self, model: SegmentationModel, objective: Objective) -> None:
        super().__init__()
        self.model, self.objective = model, objective

    def forward(
        self, given: Batch | Lesson, step: int, whole: Lesson | None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        if isinstance(given, Batch):
            total: Total = self.objective(self.model, given, step)
        else:
            total = self.objective.loss(self.model, given, step, whole=whole)
        return total.loss, total.terms

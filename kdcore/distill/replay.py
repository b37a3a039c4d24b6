"""Teachers are asked once for each view; when it comes again its logits are read from disk.

Exact: a training ends in the same weights, bit for bit, whatever the cache holds. With fp32 on a CPU
and `forward: batch` they are also those of the training without a cache, on the same `train.views`.

A network's answer for an image depends, in its last bits, on how many images stand beside it
(convolutions and matrix products are cut up by the size of the whole), on the number of threads and
on the library. All of these are part of an entry's key. With some networks it also depends on
*where* in the batch the image stands: seen with EfficientNet-B0 under FPN at some sizes. What comes
first out of a teacher is therefore compared with a second asking in another order and company, and a
teacher that does not say the same is refused; one at a time (`forward: single`) it is a function of
the image alone.

fp16 rounds each logit x by at most 2⁻¹¹·|x| (5e-4), and rounds fresh ones alike, so that the
training still does not depend on what the cache holds.
"""

from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kdcore import __version__
from kdcore.data.batches import Batch
from kdcore.distill.kept_logits import KeptLogits
from kdcore.distill.teachers import Teacher, TeacherOutput, ask
from kdcore.errors import SpecError
from kdcore.files import sha256_of
from kdcore.models.compiled import is_compiled
from kdcore.models.network import SegmentationModel
from kdcore.models.store import CARD, WEIGHTS
from kdcore.spec.base import digest
from kdcore.spec.dataset import DatasetManifest
from kdcore.spec.job import FitJob, TeacherInput
from kdcore.spec.teacher_cache import TeacherCache

FOLDER = "teachers"
_LIBRARIES = ("torch", "torchvision", "segmentation-models-pytorch", "timm", "transformers")
_IRRELEVANT = {"name", "path", "weight"}
_MEGABYTE = 10**6

Warned = Callable[[str, str], None]
"""Takes the code and the message of a warning."""


def open_replay(
    run: Path, job: FitJob, manifest: DatasetManifest, *, cache: Path, warned: Warned
) -> "Replay | None":
    """The cache that a job asks for, in ``cache / FOLDER``; None where it asks for none."""
    if job.teacher_cache is None:
        return None
    classes = [entry.name for entry in manifest.classes]
    digests = [_teacher_digest(run, item, classes) for item in job.teachers]
    return Replay(cache / FOLDER, job.teacher_cache, digests, warned=warned)


class Replay:
    """Answers for teachers whose ``digests`` say what they compute, in the teachers' order."""

    def __init__(
        self, folder: Path, spec: TeacherCache, digests: Sequence[str], *, warned: Warned
    ) -> None:
        self._kept = KeptLogits(folder, quota=spec.quota_mb * _MEGABYTE)
        self._spec, self._digests, self._warned = spec, tuple(digests), warned
        self._full = False
        self._checked: set[str] = set()

    def answers(self, teachers: Sequence[Teacher], batch: Batch) -> list[TeacherOutput]:
        """As `ask` of each teacher, without features.

        Raises: SpecError, when a teacher does not give one view one answer.
        """
        return [
            TeacherOutput(self._answer(teacher, key, batch), {})
            for teacher, key in zip(teachers, self._digests, strict=True)
        ]

    def _answer(self, teacher: Teacher, key: str, batch: Batch) -> Tensor:
        images_NCHW = batch.images_NCHW
        shelf = self._shelf(teacher, key, images_NCHW)
        answers = [self._read(shelf, view, images_NCHW.device) for view in batch.views]
        missing = [index for index, answer in enumerate(answers) if answer is None]
        if missing:
            # In a batch each view is asked for with all others, as it is without a cache.
            single = self._spec.forward == "single"
            asked = missing if single else list(range(len(images_NCHW)))
            fresh_NCHW = self._asked(teacher, shelf, images_NCHW[asked])
            for index, logits_CHW in zip(asked, fresh_NCHW, strict=True):
                if answers[index] is None:
                    self._keep(shelf, batch.views[index], logits_CHW)
                answers[index] = logits_CHW
        found = [answer for answer in answers if answer is not None]
        if self._spec.dtype == "fp16":
            # Before they are stacked: autocast to bfloat16 takes no float16 on a CPU.
            found = [answer.float() for answer in found]
        return torch.stack(found)

    def _read(self, shelf: str, view: str, device: torch.device) -> Tensor | None:
        logits_CHW = self._kept.get(shelf, view)
        return None if logits_CHW is None else logits_CHW.to(device)

    def _asked(self, teacher: Teacher, shelf: str, images_NCHW: Tensor) -> Tensor:
        """Logits of the images as they are kept, after the check of what comes first."""
        logits_NCHW = self._live(teacher, images_NCHW)
        if shelf not in self._checked:
            self._check(teacher, images_NCHW, logits_NCHW)
            self._checked.add(shelf)
        if self._spec.dtype == "fp32":
            return logits_NCHW
        limit = torch.finfo(torch.float16).max
        return logits_NCHW.clamp(-limit, limit).half()

    def _live(self, teacher: Teacher, images_NCHW: Tensor) -> Tensor:
        if self._spec.forward == "batch":
            return ask(teacher, images_NCHW).logits_NCHW
        return torch.cat([ask(teacher, one_NCHW).logits_NCHW for one_NCHW in images_NCHW[:, None]])

    def _check(self, teacher: Teacher, images_NCHW: Tensor, logits_NCHW: Tensor) -> None:
        """The first half again, in the places of the last and beside others."""
        strangers = len(images_NCHW) // 2
        others_NCHW = images_NCHW.flip(0)
        others_NCHW[:strangers] = 255 - others_NCHW[:strangers]
        again_NCHW = self._live(teacher, others_NCHW).flip(0)
        same = len(images_NCHW) - strangers
        if torch.equal(again_NCHW[:same], logits_NCHW[:same]):
            return
        if self._spec.forward == "batch":
            why, remedy = " elsewhere in a batch", "`teacher_cache.forward: single`"
        else:
            why, remedy = " when it is asked again", "no `teacher_cache`"
        raise SpecError(
            f"teacher {teacher.name} gives the same view other logits{why}; "
            "that cannot be replayed exactly",
            field="teacher_cache.forward",
            remedy=remedy,
        )

    def _keep(self, shelf: str, view: str, logits_CHW: Tensor) -> None:
        if self._full or self._kept.put(shelf, view, logits_CHW):
            return
        self._full = True
        self._warned(
            "teacher_cache_full",
            f"the teacher cache has no room for more (`teacher_cache.quota_mb` is "
            f"{self._spec.quota_mb}); from here on teachers are asked for what is not in it",
        )

    def _shelf(self, teacher: Teacher, key: str, images_NCHW: Tensor) -> str:
        """Where equal views have equal answers: one teacher, one shape, one way to compute."""
        count, *shape = images_NCHW.shape
        return digest(
            {
                "teacher": key,
                "shape": [1 if self._spec.forward == "single" else count, *shape],
                "dtype": self._spec.dtype,
                "arithmetic": _arithmetic(teacher.model, images_NCHW.device),
            }
        )


def _teacher_digest(run: Path, item: TeacherInput, classes: Sequence[str]) -> str:
    """Of weights and card, and of what the job makes of them for the dataset's classes."""
    folder = run / item.path
    return digest(
        {
            "weights": sha256_of(folder / WEIGHTS),
            "card": sha256_of(folder / CARD),
            "input": {k: v for k, v in item.to_json().items() if k not in _IRRELEVANT},
            "classes": list(classes),
            "kdcore": __version__,
            "libraries": [_version(library) for library in _LIBRARIES],
        }
    )


def _version(library: str) -> str:
    try:
        return version(library)
    except PackageNotFoundError:
        return ""


def _arithmetic(model: SegmentationModel, device: torch.device) -> dict[str, Any]:
    half = model.in_bf16 or torch.is_autocast_enabled(device.type)
    on_gpu = device.type == "cuda"
    return {
        "precision": "bf16" if half else "fp32",
        "memory_format": str(model.memory_format),
        "compiled": is_compiled(model),
        "matmul": torch.get_float32_matmul_precision(),
        "device": torch.cuda.get_device_name(device) if on_gpu else _processor(),
    }


def _processor() -> str:
    # Neither alone: instruction set and number of threads both change the order of sums.
    return f"{torch.backends.cpu.get_cpu_capability()} {torch.get_num_threads()}"

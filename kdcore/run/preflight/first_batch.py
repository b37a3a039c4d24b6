"""One batch forward and backward through everything, as the training will do it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch

from kdcore.data.batches import Batch, batches
from kdcore.errors import OutOfMemory, PreflightFailed
from kdcore.run.preflight.live_bytes import LiveBytes
from kdcore.run.preflight.memory import MemoryEstimate, check_memory, estimate, too_large
from kdcore.run.preflight.parts import Parts, Tell
from kdcore.spec.dataset import IGNORE
from kdcore.train.computing import precision_of

PROBED_IMAGES = 2
"""The least that batch norm takes."""
HOST_OVERHEAD = 1.25
"""Resident memory against tensors: convolutions' scratch memory and the allocator's fragments.

Measured over three steps of four networks at 256 pixels, batches of 8 and 16: 1.14 to 1.26.
"""


def check_first_batch(parts: Parts, *, free: int | None, tell: Tell) -> MemoryEstimate:
    """Goes through, and fits into ``free`` bytes by the estimate returned; all is as it was before.

    A host that is out of memory kills the process without a word, so there the need of the batch is
    extrapolated from two of its images first (not with a teacher cache). Raises: PreflightFailed,
    when nothing in the batch can be learned from or a part does not fit; OutOfMemory.
    """
    batch = _first_batch(parts)
    if not bool((batch.labels_NHW[: batch.labelled] != IGNORE).any()):
        raise PreflightFailed(
            "every labelled pixel of the first batch is ignored",
            field="dataset",
            remedy="check `ignore_index` and the classes' raw ids",
        )
    images = len(batch.labels_NHW)
    # Of a part of the batch a teacher cache would keep answers that nobody reads.
    whole = parts.device.type == "cuda" or parts.job.teacher_cache is not None
    probed = images if whole else min(PROBED_IMAGES, images)
    with _untouched(parts):
        try:
            peak = _step_bytes(parts, _part_of(batch, probed))
        except torch.OutOfMemoryError as error:
            raise _does_not_fit(parts, batch, error) from error
        needed = estimate(parts, activations=peak * images // probed)
        tell(needed.values())
        check_memory(needed, free=free)
        if probed < images:
            _step(parts, batch)
    return needed


def try_step(parts: Parts) -> None:
    """A step of the whole first batch; weights, buffers and RNGs are as before. Raises: PreflightFailed."""
    with _untouched(parts):
        _step(parts, _first_batch(parts))


def _first_batch(parts: Parts) -> Batch:
    share = parts.job.unlabelled.share if parts.job.unlabelled else 0.0
    stream = batches(
        parts.train, parts.pool, parts.job.train, share=share, seed=parts.job.seed, start=0
    )
    return next(stream).to(parts.device)


def _part_of(batch: Batch, images: int) -> Batch:
    return replace(
        batch,
        images_NCHW=batch.images_NCHW[:images],
        labels_NHW=batch.labels_NHW[:images],
        labelled=min(batch.labelled, images),
        views=batch.views[:images],
    )


def _step_bytes(parts: Parts, batch: Batch) -> int:
    """Most bytes of tensors at one time in a step, those of gradients left out."""
    if parts.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(parts.device)
        before: int = torch.cuda.memory_allocated(parts.device)
        _step(parts, batch)
        return int(torch.cuda.max_memory_allocated(parts.device)) - before
    live = LiveBytes()
    with live:
        _step(parts, batch)
    return int(HOST_OVERHEAD * live.peak)


def _step(parts: Parts, batch: Batch) -> None:
    half = precision_of(parts.job.train, parts.model, parts.device) == "bf16"
    try:
        with torch.autocast(parts.device.type, torch.bfloat16, enabled=half):
            total = parts.objective(parts.model, batch, 0)
        total.loss.backward()
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, ValueError, IndexError, AssertionError) as error:
        raise PreflightFailed(
            f"the first batch does not go through: {str(error)[:500]}",
            field="train",
            remedy="another `train.size` or `train.batch` (batch norm needs 2 images)",
        ) from error


def _does_not_fit(parts: Parts, batch: Batch, error: torch.OutOfMemoryError) -> OutOfMemory:
    """The device itself has refused the batch: how many images it takes, from two of them."""
    torch.cuda.empty_cache()
    free, _ = torch.cuda.mem_get_info(parts.device)
    probed = min(PROBED_IMAGES, len(batch.labels_NHW))
    try:
        peak = _step_bytes(parts, _part_of(batch, probed))
    except torch.OutOfMemoryError:
        return OutOfMemory(
            f"{probed} images do not fit: {error}",
            field="train.size",
            remedy="a smaller `train.size` or network, or a larger device",
        )
    return too_large(estimate(parts, activations=peak * len(batch.labels_NHW) // probed), free)


@contextmanager
def _untouched(parts: Parts) -> Iterator[None]:
    """Afterwards everything is as it was; gradients are dropped as soon as they are there."""
    before = {name: value.clone() for name, value in parts.model.net.state_dict().items()}
    trained = [
        each
        for part in (parts.model, parts.objective)
        for each in part.parameters()
        if each.requires_grad
    ]
    dropping = [
        each.register_post_accumulate_grad_hook(_drop_gradient)  # type: ignore[no-untyped-call]
        for each in trained
    ]
    parts.model.train()
    try:
        with torch.random.fork_rng():
            yield
    finally:
        for handle in dropping:
            handle.remove()
        parts.model.net.load_state_dict(before)
        parts.model.zero_grad(set_to_none=True)
        parts.objective.zero_grad(set_to_none=True)


def _drop_gradient(parameter: torch.Tensor) -> None:
    parameter.grad = None

"""Checkpoints written while the training goes on."""

import logging
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import torch
from torch import Tensor

from kdcore.errors import KdError
from kdcore.train.checkpoint import save_checkpoint

_log = logging.getLogger(__name__)


class CheckpointWriter:
    """Copies the state to host memory, then writes it in a thread; at most one is on its way.

    ``told`` gets step and run-directory path of each checkpoint that is complete on disk, always in
    the thread that calls `write`, `poll` or `join`. Whoever leaves the context waits for the last
    one. What went wrong in the thread (DiskFull) is raised by the next of these calls.
    """

    def __init__(self, run: Path, told: Callable[[int, str], None]) -> None:
        self._run, self._told = run, told
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._host = HostCopy()
        self._writing: tuple[int, Future[str]] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            self.join()
        except KdError as unwritten:
            if error is None:
                raise
            # Why the run ends is known already, and the checkpoints before this one are whole.
            _log.warning("last checkpoint not written: %s", unwritten)
        finally:
            self._thread.shutdown()

    def write(self, step: int, changing: dict[str, Any], unchanging: dict[str, Any]) -> None:
        """The checkpoint of ``step``: both together; of ``changing`` the values of now.

        The tensors of ``unchanging`` are not copied: nobody may write to them afterwards.
        """
        self.join()
        state = {**self._host.of(changing), **unchanging}
        self._writing = (step, self._thread.submit(save_checkpoint, self._run, step, state))

    def poll(self) -> None:
        """Tell of the checkpoint if it is there by now; returns at once."""
        if self._writing is not None and self._writing[1].done():
            self.join()

    def join(self) -> None:
        """Wait for the checkpoint that is on its way."""
        if self._writing is None:
            return
        (step, written), self._writing = self._writing, None
        self._told(step, written.result())


class HostCopy:
    """Copies of nested state in host memory; the next copy uses the memory of the last."""

    def __init__(self) -> None:
        self._buffers: dict[tuple[Any, ...], Tensor] = {}

    def of(self, state: dict[str, Any]) -> dict[str, Any]:
        """Dictionaries, lists and tuples of ``state`` anew, its tensors in host memory."""
        copied: dict[str, Any] = self._copy(state, ())
        if torch.cuda.is_available():
            torch.cuda.current_stream().synchronize()
        return copied

    def _copy(self, value: Any, place: tuple[Any, ...]) -> Any:
        match value:
            case Tensor():
                return self._buffer(value, place).copy_(value.detach(), non_blocking=True)
            case dict():
                return {key: self._copy(each, (*place, key)) for key, each in value.items()}
            case list() | tuple():
                return type(value)(
                    self._copy(each, (*place, index)) for index, each in enumerate(value)
                )
            case _:
                return value

    def _buffer(self, like: Tensor, place: tuple[Any, ...]) -> Tensor:
        known = self._buffers.get(place)
        if known is None or (known.shape, known.dtype) != (like.shape, like.dtype):
            # From pinned memory alone the device copies while the host goes on to the next tensor.
            known = torch.empty_like(like, device="cpu", pin_memory=like.is_cuda)
            self._buffers[place] = known
        return known

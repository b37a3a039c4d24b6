"""How many bytes of tensors are alive at most: the same on every device, whatever the allocator."""

import weakref
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class LiveBytes(TorchDispatchMode):
    """While open, counts the storages that operators make; ``peak`` is the most at one time.

    What was there before does not count, nor does the scratch memory inside of an operator.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.peak = 0
        self._live = 0
        self._seen: dict[int, weakref.finalize[Any, Any]] = {}

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Sequence[Any],
        args: Sequence[Any] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        for tensor in tree_leaves((args, kwargs)):
            self._note(tensor, made_here=False)
        output = func(*args, **kwargs)
        for tensor in tree_leaves(output):
            self._note(tensor, made_here=True)
        return output

    def _note(self, tensor: Any, *, made_here: bool) -> None:
        if not isinstance(tensor, torch.Tensor):
            return
        storage = tensor.untyped_storage()
        key = storage._cdata  # the storage's address: views share it
        if key in self._seen:
            return
        size = storage.nbytes() if made_here else 0
        self._live += size
        self.peak = max(self.peak, self._live)
        self._seen[key] = weakref.finalize(storage, self._gone, key, size)
        self._seen[key].atexit = False

    def _gone(self, key: int, size: int) -> None:
        self._live -= size
        self._seen.pop(key, None)

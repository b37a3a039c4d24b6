"""Teachers made ready: no gradients, and what is constant in them computed once."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any, Protocol, runtime_checkable

import torch
from timm.layers.norm_act import BatchNormAct2d
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights
from torch.utils._python_dispatch import TorchDispatchMode

from kdcore.models.network import PROBE_SIDES, SegmentationModel, tapped


@runtime_checkable
class Foldable(Protocol):
    """A module that knows an equivalent of itself for inference."""

    def folded(self) -> nn.Module: ...


def freeze(model: SegmentationModel) -> SegmentationModel:
    """``model``, in place: eval mode, no gradients, constants folded; outputs and taps to 1e-5 as before.

    Batch norms go into the convolutions before them, SegFormer's head into one matrix a stage. Its
    state dict is no longer that of its architecture: for networks that nobody saves.
    """
    model.eval().requires_grad_(False)
    for name, module in list(model.named_modules()):
        if isinstance(module, Foldable):
            _replace(model, name, module.folded())
    for convolution, norm in _pairs(model):
        _fold(model, convolution, norm)
    return model.requires_grad_(False)


def _fold(model: nn.Module, convolution: str, norm: str) -> None:
    conv, bn = model.get_submodule(convolution), model.get_submodule(norm)
    assert isinstance(conv, nn.Conv2d)
    assert isinstance(bn, nn.BatchNorm2d)
    assert bn.running_mean is not None
    assert bn.running_var is not None
    conv.weight, conv.bias = fuse_conv_bn_weights(
        conv.weight, conv.bias, bn.running_mean, bn.running_var, bn.eps, bn.weight, bn.bias
    )
    _replace(model, norm, bn.act if isinstance(bn, BatchNormAct2d) else nn.Identity())


def _pairs(model: SegmentationModel) -> list[tuple[str, str]]:
    """Names of convolutions and of the batch norms that are all that ever sees their output."""
    for side in PROBE_SIDES:
        # An image of a size that the network refuses tells nothing; without any, nothing is folded.
        with suppress(RuntimeError, ValueError, AssertionError):
            return list(_Trace(model, side).pairs())
    return []


class _Trace(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """The operations on one small image, with the very tensors that they took and made."""

    def __init__(self, model: SegmentationModel, side: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._model = model
        self._calls: list[tuple[Any, list[Tensor], Any]] = []
        with torch.no_grad(), tapped(model) as features, self:
            model(torch.zeros(1, 3, side, side, device=model.mean.device))
        self._tapped = {id(each) for each in features.stages.values()}

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        output = func(*args, **(kwargs or {}))
        # Tensors are kept, so that no id is given twice.
        self._calls.append((func, list(_tensors((args, kwargs))), output))
        return output

    def pairs(self) -> Iterator[tuple[str, str]]:
        convolutions = _owners(self._model, _is_convolution, "weight")
        norms = _owners(self._model, _is_norm, "running_mean")
        readers = Counter(id(tensor) for _, inputs, _ in self._calls for tensor in inputs)
        made_by: dict[int, str] = {}
        for func, inputs, output in self._calls:
            if func is torch.ops.aten.convolution.default:
                weight = id(inputs[1])
                if weight in convolutions and readers[weight] == 1:
                    made_by[id(output)] = convolutions[weight]
                continue
            norm = next((norms[id(each)] for each in inputs if id(each) in norms), None)
            source = id(inputs[0]) if inputs else None
            if norm is None or source not in made_by or source in self._tapped:
                continue
            mean = id(self._model.get_submodule(norm).running_mean)
            if readers[source] == 1 and readers[mean] == 1:
                yield made_by[source], norm


def _owners(
    model: nn.Module, chosen: Callable[[nn.Module], bool], attribute: str
) -> dict[int, str]:
    """The module's name by the id of its tensor; without those that two modules or names share."""
    named = [
        (id(getattr(module, attribute)), name)
        for name, module in model.named_modules(remove_duplicate=False)
        if chosen(module)
    ]
    times = Counter(tensor for tensor, _ in named)
    return {tensor: name for tensor, name in named if times[tensor] == 1}


def _is_convolution(module: nn.Module) -> bool:
    return isinstance(module, nn.Conv2d)


def _is_norm(module: nn.Module) -> bool:
    """Subclasses may do more than normalise; of timm's it is known what."""
    known = type(module) in (nn.BatchNorm2d, BatchNormAct2d)
    return known and isinstance(module, nn.BatchNorm2d) and module.running_mean is not None


def _tensors(nested: Any) -> Iterator[Tensor]:
    if isinstance(nested, Tensor):
        yield nested
    elif isinstance(nested, list | tuple):
        for each in nested:
            yield from _tensors(each)
    elif isinstance(nested, dict):
        yield from _tensors(list(nested.values()))


def _replace(model: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, leaf = name.rpartition(".")
    setattr(model.get_submodule(parent), leaf, module.eval())

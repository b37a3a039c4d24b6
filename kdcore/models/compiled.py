"""torch.compile on a network's parts, so that feature taps stay outside of what is compiled."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from kdcore.models.network import SegmentationModel

_FORWARD = "forward"


def compile_parts(model: SegmentationModel) -> None:
    """In place: the encoder, and each part beside it, compiled for fixed shapes at its first call.

    State dict, hooks and modes stay as they are: a part's `forward` is replaced, and a tap is a hook
    around it.
    """
    for part in _parts(model.net, model.encoder):
        setattr(part, _FORWARD, torch.compile(part.forward, dynamic=False))


def drop_compiled(model: SegmentationModel) -> None:
    """In place: the network as it was written."""
    for part in _parts(model.net, model.encoder):
        vars(part).pop(_FORWARD, None)


@contextmanager
def uncompiled(model: SegmentationModel) -> Iterator[None]:
    """While open, nothing compiled is run: images of many sizes would be compiled one by one."""
    own = {
        part: vars(part)[_FORWARD]
        for part in _parts(model.net, model.encoder)
        if _FORWARD in vars(part)
    }
    drop_compiled(model)
    try:
        yield
    finally:
        for part, forward in own.items():
            setattr(part, _FORWARD, forward)


def is_compiled(model: SegmentationModel) -> bool:
    return any(_FORWARD in vars(part) for part in _parts(model.net, model.encoder))


def _parts(net: nn.Module, encoder: nn.Module) -> Iterator[nn.Module]:
    """The encoder, and what hangs beside the way down to it."""
    for child in net.children():
        if child is encoder or not any(each is encoder for each in child.modules()):
            yield child
        else:
            yield from _parts(child, encoder)

"""Weights from files: state dicts, safetensors or read by torch without unpickling code."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from kdcore.errors import SpecError
from kdcore.spec.model import ModelSpec

State = dict[str, Tensor]

_WRAPPERS = ("state_dict", "model_state_dict", "model")
"""Keys under which training scripts keep the state dict in a checkpoint."""
_IMAGENET_HEADS = ("classifier.", "fc.", "head.", "last_linear.")
"""Of classifiers: left out of a file of encoder weights."""


@dataclass(frozen=True)
class Foreign:
    """How the keys of a network's files elsewhere differ from ours (class attribute ``foreign``)."""

    renamed: Mapping[str, str] = field(default_factory=dict)
    """Prefix in a file of the whole network -> prefix of ours."""
    unused: tuple[str, ...] = ()
    """Prefixes in a file of encoder weights that this encoder has no place for."""


def load_weights(net: nn.Module, path: Path, at: str) -> None:
    """Fill ``net`` or its encoder from a state dict; every key must match.

    A file of the whole network fills all of it; where only the head differs in shape (another number
    of classes), and for a file of encoder weights, the encoder alone is filled. An ImageNet
    classifier's head is left out. Raises: SpecError, naming field ``at``.
    """
    foreign: Foreign = getattr(net, "foreign", Foreign())
    state = _read(path, at)
    whole = {_rename(key, foreign.renamed): value for key, value in state.items()}
    own = net.state_dict()
    if whole.keys() == own.keys():
        _fill_whole(net, whole, own, path, at)
        return
    encoder = net.encoder
    assert isinstance(encoder, nn.Module)
    _fill_encoder(encoder, state, foreign, path, at)


@contextmanager
def downloading(spec: ModelSpec, at: str) -> Iterator[None]:
    """Around the library call that may fetch `imagenet` weights. Raises: SpecError."""
    try:
        yield
    # RuntimeError: a download that is cut short, with a wrong hash.
    except (OSError, RuntimeError) as error:
        if spec.weights != "imagenet":
            raise
        raise SpecError(
            f"imagenet weights of {spec.encoder} could not be downloaded: {error}",
            field=f"{at}.weights",
            remedy="give the path of a local weights file, or leave `weights` out",
        ) from error


def _read(path: Path, at: str) -> State:
    try:
        if path.suffix == ".safetensors":
            content: Any = load_file(path)
        else:
            content = torch.load(path, map_location="cpu", weights_only=True)
    # Whatever is wrong with a weights file from outside, the user is told which file and field.
    except Exception as error:
        raise _misfit(path, at, str(error)[:300]) from error
    for key in _WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping) or not content:
        raise _misfit(path, at, "it holds no state dict")
    state = {str(key).removeprefix("module."): value for key, value in content.items()}
    strange = [key for key, value in state.items() if not isinstance(value, Tensor)]
    if strange:
        raise _misfit(path, at, f"{strange[0]} is no tensor")
    return state


def _fill_whole(net: nn.Module, state: State, own: State, path: Path, at: str) -> None:
    differing = [key for key in own if own[key].shape != state[key].shape]
    if not differing:
        net.load_state_dict(state)
        return
    prefix = _encoder_prefix(net)
    inside = [key for key in differing if key.startswith(prefix)]
    if inside:
        raise _misfit(path, at, _shapes(inside[0], state, own))
    encoder = net.encoder
    assert isinstance(encoder, nn.Module)
    encoder.load_state_dict(
        {key.removeprefix(prefix): state[key] for key in own if key.startswith(prefix)}
    )


def _fill_encoder(encoder: nn.Module, state: State, foreign: Foreign, path: Path, at: str) -> None:
    own = encoder.state_dict()
    heads = tuple(prefix for prefix in (*_IMAGENET_HEADS, *foreign.unused))
    kept = {key: v for key, v in state.items() if key in own or not key.startswith(heads)}
    try:
        # smp's encoders rename keys in theirs, so ours to compare are not the last word.
        encoder.load_state_dict(kept)
    except (RuntimeError, KeyError) as error:
        raise _misfit(path, at, _difference(kept, own)) from error


def _encoder_prefix(net: nn.Module) -> str:
    encoder = net.encoder
    return next(f"{name}." for name, module in net.named_modules() if module is encoder)


def _rename(key: str, renamed: Mapping[str, str]) -> str:
    for theirs, ours in renamed.items():
        if key.startswith(theirs):
            return ours + key.removeprefix(theirs)
    return key


def _difference(state: State, own: State) -> str:
    missing = [key for key in own if key not in state]
    further = [key for key in state if key not in own]
    for what, keys in (("lacks", missing), ("has beside it", further)):
        if keys:
            return f"it {what} {', '.join(keys[:3])}" + (" ..." if len(keys) > 3 else "")
    return _shapes(next(k for k in own if own[k].shape != state[k].shape), state, own)


def _shapes(key: str, state: State, own: State) -> str:
    return f"{key} has the shape {tuple(state[key].shape)}, not {tuple(own[key].shape)}"


def _misfit(path: Path, at: str, why: str) -> SpecError:
    return SpecError(
        f"{path.name} does not fit: {why}",
        field=at,
        remedy="a state dict of this very network or of its encoder (safetensors, or torch.save)",
    )

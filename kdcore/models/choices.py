"""What every builder does with a spec: take a variant by the encoder's name, refuse unknown options."""

import difflib
from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

from torch import nn

from kdcore.errors import SpecError
from kdcore.spec.model import ModelSpec

Variant = TypeVar("Variant")


def choose(variants: Mapping[str, Variant], spec: ModelSpec, field: str) -> Variant:
    """The variant that `encoder` names. Raises: SpecError, listing them."""
    if spec.encoder not in variants:
        raise SpecError(
            f"{spec.arch} has no encoder named {spec.encoder}",
            field=f"{field}.encoder",
            remedy=nearest(spec.encoder, variants, otherwise=", ".join(variants)),
        )
    return variants[spec.encoder]


def nearest(name: str, known: Iterable[str], *, otherwise: str) -> str:
    """A question with the closest names, or ``otherwise`` where none is close."""
    near = difflib.get_close_matches(name, known, n=3)
    return f"did you mean {' or '.join(near)}?" if near else otherwise


def construct(
    network: Callable[..., nn.Module],
    spec: ModelSpec,
    field: str,
    defaults: Mapping[str, object] | None = None,
    **fixed: object,
) -> nn.Module:
    """``network`` with the spec's options, which may replace ``defaults`` alone. Raises: SpecError."""
    try:
        return network(**{**(defaults or {}), **spec.options}, **fixed)
    except (TypeError, ValueError, KeyError, AssertionError) as error:
        raise SpecError(
            f"{spec.arch} with {spec.encoder} cannot be built: {error}",
            field=field_at_fault(error, spec, field, otherwise=f"{field}.options"),
        ) from error


def field_at_fault(error: Exception, spec: ModelSpec, field: str, *, otherwise: str) -> str:
    """The option that ``error`` names in quotes, as Python does with an unexpected argument."""
    named = (name for name in spec.options if f"'{name}'" in str(error))
    return next((f"{field}.options.{name}" for name in named), otherwise)


def refuse_imagenet(spec: ModelSpec, field: str) -> None:
    """For networks that nobody has pretrained. Raises: SpecError."""
    if spec.weights == "imagenet":
        raise SpecError(
            f"there are no imagenet weights for {spec.arch}",
            field=f"{field}.weights",
            remedy="leave `weights` out, or give the path of a file",
        )

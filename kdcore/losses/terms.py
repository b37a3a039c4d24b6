"""From a term of the objective to a module that computes it."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

import torch
from pydantic import TypeAdapter
from torch import Tensor, nn

from kdcore.errors import SpecError
from kdcore.losses.border import boundary, boundary_label
from kdcore.losses.channel import cgd, cwd
from kdcore.losses.feature import at, cosine, feature_l2, ifvd, pkd
from kdcore.losses.generative import Generator, Projection, mgd
from kdcore.losses.label import cross_entropy, focal, ohem
from kdcore.losses.masking import wide
from kdcore.losses.region import dice, lovasz, tversky
from kdcore.losses.relation import cirkd, dist, skd
from kdcore.losses.response import dkd, kd, logit_std, ofa
from kdcore.spec.dataset import IGNORE
from kdcore.spec.objective import MaskedGenerative, Ramp, Term

FUNCTIONS: Final[dict[str, Callable[..., Tensor]]] = {
    "ce": cross_entropy,
    "ohem": ohem,
    "focal": focal,
    "dice": dice,
    "tversky": tversky,
    "lovasz": lovasz,
    "boundary_label": boundary_label,
    "kd": kd,
    "cwd": cwd,
    "dist": dist,
    "dkd": dkd,
    "logit_std": logit_std,
    "cgd": cgd,
    "ofa": ofa,
    "boundary": boundary,
    "feature_l2": feature_l2,
    "cosine": cosine,
    "pkd": pkd,
    "at": at,
    "skd": skd,
    "ifvd": ifvd,
    "mgd": mgd,
    "cirkd": cirkd,
}
"""Kind to loss; its keyword arguments are the term's own fields (`BaseTerm.hyperparameters`)."""

_term_adapter: TypeAdapter[Term] = TypeAdapter(Term)


class Loss(nn.Module):
    """One term before its weight.

    ``loss(student, teacher, labels, ignore_index=255)``: student and teacher are logits or features
    (N, C, H, W) as ``over_features`` says, labels (N, H, W) int64; returns a scalar, computed in
    float32 or better also under autocast. A label term takes None as teacher. ``temperature`` is for
    terms whose own is a ramp; without it a ramp is at its start.
    ``adapter`` brings the student's channels to the teacher's where a feature term needs that and
    they differ, ``generator`` is MGD's; both are trained with the student and never part of it.
    """

    def __init__(
        self,
        spec: Term,
        *,
        channels: tuple[int, int] | None = None,
        class_weights_C: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.spec = spec
        self.over_features = spec.over_features
        arguments = spec.hyperparameters()
        if isinstance(arguments.get("temperature"), Ramp):
            arguments["temperature"] = arguments["temperature"].start
        weights_C = _class_weights(spec, class_weights_C)
        if weights_C is not None:
            arguments["class_weights_C"] = weights_C
        self._compute = partial(FUNCTIONS[spec.kind], **arguments)
        self.adapter: nn.Module = nn.Identity()
        self.generator: Generator | None = None
        self._grown = False
        if channels is not None:
            self._grow(*channels)

    def forward(
        self,
        student: Tensor,
        teacher: Tensor | None,
        labels: Tensor,
        *,
        ignore_index: int = IGNORE,
        temperature: float | None = None,
    ) -> Tensor:
        with torch.autocast(student.device.type, enabled=False):
            if teacher is None or not self.spec.needs_teacher:
                return self._compute(student, labels, ignore_index=ignore_index)
            if not self._grown:
                self._grow(int(student.shape[1]), int(teacher.shape[1]))
                self.to(student.device)
            more: dict[str, Any] = {} if temperature is None else {"temperature": temperature}
            if self.generator is not None:
                more["generator"] = self.generator
            student = self.adapter(wide(student))
            return self._compute(student, teacher, labels, ignore_index=ignore_index, **more)

    def _grow(self, student: int, teacher: int) -> None:
        """The convolutions of this term between ``student`` and ``teacher`` channels."""
        self._grown = True
        if not self.over_features:
            return
        wanted = getattr(self.spec, "adapter", None)
        if wanted == "always" or (wanted == "auto" and student != teacher):
            self.adapter = Projection(student, teacher, 1)
        if isinstance(self.spec, MaskedGenerative):
            self.generator = Generator(teacher)


def build(
    term: Term | Mapping[str, Any],
    *,
    channels: tuple[int, int] | None = None,
    class_weights_C: Tensor | None = None,
) -> Loss:
    """The module of a term, given as spec or as its JSON form (``{"kind": "cwd", "temperature": 4}``).

    ``channels``: (student, teacher) widths of a feature term, for its adapter and generator. Without
    them these come into being in the first call: too late for an optimizer that already exists.
    ``class_weights_C``: what ``class_weights: raw_…`` of the term amounts to on the data.
    Raises: pydantic.ValidationError for a term that does not exist; SpecError for class weights that
    need statistics.
    """
    return Loss(
        _term_adapter.validate_python(term), channels=channels, class_weights_C=class_weights_C
    )


def _class_weights(spec: Term, given_C: Tensor | None) -> Tensor | None:
    wanted = getattr(spec, "class_weights", None)
    if given_C is not None or wanted is None:
        return given_C if hasattr(spec, "class_weights") else None
    if isinstance(wanted, str):
        raise SpecError(
            f"`{wanted}` needs the class statistics of a dataset",
            field="class_weights",
            remedy="pass class_weights_C, or give a list",
        )
    return torch.tensor(wanted)

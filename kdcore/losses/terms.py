"""From a term of the objective to a module that computes it."""

from collections.abc import Callable, Mapping
from typing import Any

from pydantic import TypeAdapter
from torch import Tensor, nn

from kdcore.losses.feature import pkd
from kdcore.losses.label import cross_entropy, dice
from kdcore.losses.response import cwd, kd
from kdcore.spec.dataset import IGNORE
from kdcore.spec.objective import ChannelWise, CrossEntropy, Dice, Pkd, ResponseKd, Term

_term_adapter: TypeAdapter[Term] = TypeAdapter(Term)


class Loss(nn.Module):
    """One term before its weight.

    ``loss(student, teacher, labels, ignore_index=255)``: student and teacher are logits or features
    (N, C, H, W) as ``over_features`` says, labels (N, H, W) int64; returns a scalar.
    ``adapter`` brings the student's channels to the teacher's where they differ; it is trained with
    the student and never part of it.
    """

    def __init__(
        self,
        spec: Term,
        compute: Callable[..., Tensor],
        *,
        over_features: bool = False,
        channels: tuple[int, int] | None = None,
    ) -> None:
        super().__init__()
        self.spec = spec
        self.over_features = over_features
        self.temperature = getattr(spec, "temperature", 1.0)
        self._compute = compute
        adapt = channels is not None and channels[0] != channels[1]
        self.adapter: nn.Module = nn.Conv2d(*channels, 1) if adapt and channels else nn.Identity()

    def forward(
        self,
        student: Tensor,
        teacher: Tensor | None,
        labels: Tensor,
        *,
        ignore_index: int = IGNORE,
    ) -> Tensor:
        if not self.spec.needs_teacher:
            return self._compute(student, labels, ignore_index=ignore_index)
        return self._compute(self.adapter(student), teacher, labels, ignore_index=ignore_index)


def build(
    term: Term | Mapping[str, Any],
    *,
    channels: tuple[int, int] | None = None,
    class_weights_C: Tensor | None = None,
) -> Loss:
    """The module of a term, given as spec or as its JSON form (``{"kind": "cwd", "temperature": 4}``).

    ``channels``: (student, teacher) widths of a feature term; equal or None: no adapter.
    Raises: pydantic.ValidationError for a term that does not exist.
    """
    spec = _term_adapter.validate_python(term)
    compute, over_features = _BUILDERS[spec.kind](spec, class_weights_C)
    return Loss(spec, compute, over_features=over_features, channels=channels)


_Built = tuple[Callable[..., Tensor], bool]


def _build_ce(_: CrossEntropy, class_weights_C: Tensor | None) -> _Built:
    def compute(logits: Tensor, labels: Tensor, *, ignore_index: int) -> Tensor:
        return cross_entropy(
            logits, labels, class_weights_C=class_weights_C, ignore_index=ignore_index
        )

    return compute, False


def _build_dice(spec: Dice, _: Tensor | None) -> _Built:
    def compute(logits: Tensor, labels: Tensor, *, ignore_index: int) -> Tensor:
        return dice(logits, labels, eps=spec.eps, ignore_index=ignore_index)

    return compute, False


def _build_kd(spec: ResponseKd, _: Tensor | None) -> _Built:
    def compute(student: Tensor, teacher: Tensor, labels: Tensor, *, ignore_index: int) -> Tensor:
        return kd(student, teacher, labels, temperature=spec.temperature, ignore_index=ignore_index)

    return compute, False


def _build_cwd(spec: ChannelWise, _: Tensor | None) -> _Built:
    def compute(student: Tensor, teacher: Tensor, labels: Tensor, *, ignore_index: int) -> Tensor:
        return cwd(
            student, teacher, labels, temperature=spec.temperature, ignore_index=ignore_index
        )

    return compute, spec.over == "features"


def _build_pkd(_spec: Pkd, _: Tensor | None) -> _Built:
    return pkd, True


_BUILDERS: dict[str, Callable[[Any, Tensor | None], _Built]] = {
    "ce": _build_ce,
    "dice": _build_dice,
    "kd": _build_kd,
    "cwd": _build_cwd,
    "pkd": _build_pkd,
}

"""The objective: named, weighted terms, each a loss of `kdcore.losses` with a schedule for its weight."""

from typing import Annotated, ClassVar, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from kdcore.spec.base import Spec

Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]


class Ramp(Spec):
    """A value that goes from one number to another over a part of the training.

    ``over: train`` is the whole training, ``over: [a, b]`` the part between two fractions of its
    steps; before it the value is ``from``, after it ``to``. Warm-up is ``{from: 0, to: 1, over: [0, 0.1]}``.
    """

    shape: Literal["linear", "cosine"] = "linear"
    start: float = Field(alias="from", ge=0)
    end: float = Field(alias="to", ge=0)
    over: Literal["train"] | tuple[Fraction, Fraction] = "train"

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.over != "train" and not self.over[0] < self.over[1]:
            raise ValueError("over: the first fraction must be below the second")
        return self


Weight = Annotated[float, Field(ge=0)] | Ramp
ClassWeights = (
    Literal["raw_inverse", "raw_inverse_sqrt"] | tuple[Annotated[float, Field(ge=0)], ...]
)
Taps = Literal["auto"] | tuple[tuple[str, str], ...]


class _Term(Spec):
    needs_teacher: ClassVar[bool]
    needs_labels: ClassVar[bool]
    weight: Weight = Field(default=1.0, description="A number or a ramp; logged before and after")


class CrossEntropy(_Term):
    """Cross entropy over the labelled pixels."""

    needs_teacher, needs_labels = False, True
    kind: Literal["ce"] = "ce"
    class_weights: ClassWeights | None = Field(
        default=None, description="From the raw masks of train, clipped to [0.1, 10], or a list"
    )


class Dice(_Term):
    """1 - mean soft Dice over the classes present in the batch."""

    needs_teacher, needs_labels = False, True
    kind: Literal["dice"] = "dice"
    eps: Positive = Field(default=1.0, description="Smoothing of numerator and denominator")


class ResponseKd(_Term):
    """Hinton's distillation per pixel (arXiv:1503.02531)."""

    needs_teacher, needs_labels = True, False
    kind: Literal["kd"] = "kd"
    temperature: Positive = 1.0


class ChannelWise(_Term):
    """Channel-wise distillation (arXiv:2011.13256): softmax over space, per channel."""

    needs_teacher, needs_labels = True, False
    kind: Literal["cwd"] = "cwd"
    temperature: Positive = 4.0
    over: Literal["logits", "features"] = "logits"
    taps: Taps = Field(
        default="auto", description="With `over: features`: (student, teacher) stages"
    )


class Pkd(_Term):
    """Pearson feature distillation (arXiv:2207.02039): standardised features, MSE / 2."""

    needs_teacher, needs_labels = True, False
    kind: Literal["pkd"] = "pkd"
    taps: Taps = "auto"


Term = Annotated[CrossEntropy | Dice | ResponseKd | ChannelWise | Pkd, Field(discriminator="kind")]


def _one_of_a_kind(terms: tuple[Term, ...]) -> tuple[Term, ...]:
    kinds = [term.kind for term in terms]
    twice = sorted({kind for kind in kinds if kinds.count(kind) > 1})
    if twice:
        raise ValueError(f"each kind may appear once; {', '.join(twice)} does not")
    return terms


def _without_teacher(terms: tuple[Term, ...]) -> tuple[Term, ...]:
    for term in terms:
        if term.needs_teacher:
            raise ValueError(f"`{term.kind}` needs a teacher, and there is none here")
    return terms


Terms = Annotated[tuple[Term, ...], Field(min_length=1), AfterValidator(_one_of_a_kind)]
LabelTerms = Annotated[Terms, AfterValidator(_without_teacher)]
"""What can be minimised without a teacher."""


class Ensemble(Spec):
    """How several teachers become one: the mean of their logits or of their probabilities."""

    kind: Literal["logit_mean", "prob_mean"] = "logit_mean"

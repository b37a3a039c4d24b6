"""Terms against the labels."""

from typing import Annotated, Literal

from pydantic import Field

from kdcore.spec.ramp import Fraction, NonNegative, Positive
from kdcore.spec.term import BaseTerm, ClassWeights, Headed

Pixels = Annotated[int, Field(ge=1, le=255)]


class _Weighted(Headed):
    class_weights: ClassWeights | None = Field(
        default=None, description="From the raw masks of train, clipped to [0.1, 10], or a list"
    )


class CrossEntropy(_Weighted):
    """Cross entropy over the labelled pixels."""

    needs_teacher, needs_labels = False, True
    mean_of = "pixels"
    kind: Literal["ce"] = "ce"


class Ohem(_Weighted):
    """Cross entropy over the hard pixels only."""

    needs_teacher, needs_labels = False, True
    kind: Literal["ohem"] = "ohem"
    threshold: Fraction = Field(default=0.7, description="Hard: true class below this probability")
    min_kept: Fraction = Field(default=0.1, description="Share of the pixels that is always kept")


class Focal(_Weighted):
    """Cross entropy, each pixel weighted by (1 - p)^gamma (arXiv:1708.02002)."""

    needs_teacher, needs_labels = False, True
    mean_of = "pixels"
    kind: Literal["focal"] = "focal"
    gamma: NonNegative = 2.0


class Dice(BaseTerm):
    """1 - mean soft Dice over the classes present in the batch."""

    needs_teacher, needs_labels = False, True
    kind: Literal["dice"] = "dice"
    eps: Positive = Field(default=1.0, description="Smoothing of numerator and denominator")


class Tversky(BaseTerm):
    """1 - mean Tversky index over the classes present in the batch (arXiv:1706.05721)."""

    needs_teacher, needs_labels = False, True
    kind: Literal["tversky"] = "tversky"
    alpha: NonNegative = Field(default=0.3, description="Weight of false positives")
    beta: NonNegative = Field(default=0.7, description="Weight of false negatives")
    eps: Positive = Field(default=1.0, description="Smoothing of numerator and denominator")


class Lovasz(BaseTerm):
    """Lovász-softmax: the convex extension of 1 - IoU (arXiv:1705.08790)."""

    needs_teacher, needs_labels = False, True
    kind: Literal["lovasz"] = "lovasz"


class BoundaryLabel(BaseTerm):
    """1 - F1 of the boundaries of each class (arXiv:1905.07852). `boundary` distils instead."""

    needs_teacher, needs_labels = False, True
    kind: Literal["boundary_label"] = "boundary_label"
    width: Pixels = Field(default=1, description="A boundary's pixels this far inside; θ0 = 2·1+1")
    tolerance: Pixels = Field(default=2, description="Boundaries match this far off; θ = 2·2+1")

"""The objective: named, weighted terms, each a loss of `kdcore.losses` with a schedule for its weight."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from kdcore.spec.base import Spec
from kdcore.spec.feature_terms import (
    AttentionTransfer,
    Cosine,
    CrossImage,
    FeatureL2,
    IntraClass,
    MaskedGenerative,
    Pairwise,
    Pkd,
)
from kdcore.spec.label_terms import (
    BoundaryLabel,
    CrossEntropy,
    Dice,
    Focal,
    Lovasz,
    Ohem,
    Tversky,
)
from kdcore.spec.logit_terms import (
    BoundaryKd,
    ChannelGroup,
    ChannelWise,
    Decoupled,
    Dist,
    OneForAll,
    ResponseKd,
    StandardisedKd,
)
from kdcore.spec.ramp import Fraction, NonNegative, Positive, Ramp, Temperature, Weight
from kdcore.spec.term import Adapted, BaseTerm, ClassWeights, Headed, Heads, OverFeatures, Taps

__all__ = [
    "Adapted",
    "AttentionTransfer",
    "BaseTerm",
    "BoundaryKd",
    "BoundaryLabel",
    "ChannelGroup",
    "ChannelWise",
    "ClassWeights",
    "Cosine",
    "CrossEntropy",
    "CrossImage",
    "Decoupled",
    "Dice",
    "Dist",
    "Ensemble",
    "FeatureL2",
    "Focal",
    "Fraction",
    "Headed",
    "Heads",
    "IntraClass",
    "Lovasz",
    "MaskedGenerative",
    "NonNegative",
    "Ohem",
    "OneForAll",
    "OverFeatures",
    "Pairwise",
    "Pkd",
    "Positive",
    "Ramp",
    "ResponseKd",
    "StandardisedKd",
    "Taps",
    "Temperature",
    "Term",
    "Tversky",
    "Weight",
]

Term = Annotated[
    CrossEntropy
    | Ohem
    | Focal
    | Dice
    | Tversky
    | Lovasz
    | BoundaryLabel
    | ResponseKd
    | ChannelWise
    | Dist
    | Decoupled
    | StandardisedKd
    | ChannelGroup
    | OneForAll
    | BoundaryKd
    | FeatureL2
    | Cosine
    | Pkd
    | AttentionTransfer
    | Pairwise
    | IntraClass
    | MaskedGenerative
    | CrossImage,
    Field(discriminator="kind"),
]


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
    """How several teachers become one.

    ``logit_mean``, ``prob_mean``: means of logits or of probabilities by the teachers' weights.
    ``confidence``: per pixel, more for the teacher with the smaller cross entropy (CA-MKD).
    ``entropy``: per pixel, more for the surer teacher (EBKD). ``class_iou``: per class, by the
    teachers' IoU on val. The last three mix probabilities.
    """

    kind: Literal["logit_mean", "prob_mean", "confidence", "entropy", "class_iou"] = "logit_mean"

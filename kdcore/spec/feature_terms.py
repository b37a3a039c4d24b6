"""Terms between features of student and teacher."""

from typing import Annotated, Literal

from pydantic import Field, field_validator

from kdcore.spec.ramp import Fraction, Positive, Temperature
from kdcore.spec.term import Adapted, OverFeatures


class FeatureL2(Adapted):
    """MSE of features (FitNets, arXiv:1412.6550). Sensitive to scale: prefer `pkd`."""

    needs_teacher, needs_labels = True, False
    mean_of = "pixels"
    kind: Literal["feature_l2", "fitnet"] = "feature_l2"

    @field_validator("kind")
    @classmethod
    def _one_name(cls, _: str) -> str:
        return "feature_l2"


class Cosine(Adapted):
    """1 - cosine between the features of each pixel; of three taps summed, give three times the weight."""

    needs_teacher, needs_labels = True, False
    mean_of = "pixels"
    kind: Literal["cosine"] = "cosine"


class Pkd(Adapted):
    """Pearson feature distillation (arXiv:2207.02039): standardised features, MSE / 2."""

    needs_teacher, needs_labels = True, False
    kind: Literal["pkd"] = "pkd"


class AttentionTransfer(OverFeatures):
    """MSE of normalised attention maps (arXiv:1612.03928); published weight 1e4."""

    needs_teacher, needs_labels = True, False
    mean_of = "pixels"
    kind: Literal["at"] = "at"


class Pairwise(OverFeatures):
    """Structural distillation (arXiv:1903.04197): MSE of the similarities of all pairs of places."""

    needs_teacher, needs_labels = True, False
    kind: Literal["skd"] = "skd"
    pool: Annotated[int, Field(ge=1)] = Field(default=2, description="Max-pooled by this factor")
    scale: Fraction | None = Field(
        default=None,
        gt=0,
        description="Instead of `pool`: the window as a share of the map (original code: 0.5)",
    )


class IntraClass(OverFeatures):
    """IFVD (ECCV 2020): MSE of each pixel's cosine with the centre of its class."""

    needs_teacher, needs_labels = True, True
    kind: Literal["ifvd"] = "ifvd"
    mean_over: Literal["all", "valid"] = Field(
        default="all",
        description="Divide by all pixels, as published (ignored ones add 0), or by the valid ones",
    )


class MaskedGenerative(Adapted):
    """MGD (arXiv:2205.01529): the teacher's features from the student's, most of them hidden."""

    needs_teacher, needs_labels = True, False
    mean_of = "images"
    kind: Literal["mgd"] = "mgd"
    ratio: Annotated[float, Field(ge=0, lt=1)] = Field(default=0.75, description="Share hidden")
    alpha: Positive = Field(default=2e-5, description="Factor of the summed squares, as published")


class CrossImage(OverFeatures):
    """CIRKD's mini-batch term (arXiv:2204.06986): similarities of pixels across images."""

    needs_teacher, needs_labels = True, False
    kind: Literal["cirkd"] = "cirkd"
    temperature: Temperature = 0.1
    side: Annotated[int, Field(ge=1)] = Field(
        default=32,
        description="Larger maps are average-pooled to at most this; memory grows as N²·side⁴",
    )

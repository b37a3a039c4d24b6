"""Terms between the logits of student and teacher."""

from typing import Annotated, Literal

from pydantic import Field

from kdcore.spec.ramp import NonNegative, Positive, Temperature
from kdcore.spec.term import BaseTerm, Headed, Taps

Grid = Literal["logits", "labels"]


class ResponseKd(Headed):
    """Hinton's distillation per pixel (arXiv:1503.02531)."""

    needs_teacher, needs_labels = True, False
    mean_of = "pixels"
    kind: Literal["kd"] = "kd"
    temperature: Temperature = 1.0
    clamp: Positive | None = Field(
        default=None,
        description="Clip both logits to ±this. It kills gradients: only to repeat older recipes",
    )
    grid: Grid = Field(
        default="logits",
        description="Where pixels are compared: at the smaller of both logits' grids, where one is "
        "valid if its nearest label is, or with both resized to the labels. Another loss, not only "
        "another speed",
    )


class ChannelWise(BaseTerm):
    """Channel-wise distillation (arXiv:2011.13256): softmax over space, per channel."""

    needs_teacher, needs_labels = True, False
    mean_of = "images"
    kind: Literal["cwd"] = "cwd"
    temperature: Temperature = 4.0
    over: Literal["logits", "features"] = "logits"
    taps: Taps = Field(
        default="auto", description="With `over: features`: (student, teacher) stages"
    )
    adapter: Literal["auto", "always"] = Field(
        default="auto", description="With `over: features`: a 1×1 projection, also of equal widths"
    )

    @property
    def over_features(self) -> bool:
        return self.over == "features"


class Dist(BaseTerm):
    """Pearson correlation over classes and over pixels (arXiv:2205.10536)."""

    needs_teacher, needs_labels = True, False
    kind: Literal["dist"] = "dist"
    temperature: Temperature = 1.0
    beta: NonNegative = Field(default=1.0, description="Weight between the classes of a pixel")
    gamma: NonNegative = Field(default=1.0, description="Weight between the pixels of a class")


class Decoupled(BaseTerm):
    """Decoupled distillation of the true class and of the others (arXiv:2203.08679)."""

    needs_teacher, needs_labels = True, True
    mean_of = "pixels"
    kind: Literal["dkd"] = "dkd"
    temperature: Temperature = 4.0
    alpha: NonNegative = Field(default=1.0, description="Weight of the true class")
    beta: NonNegative = Field(default=2.0, description="Weight of the other classes")


class StandardisedKd(BaseTerm):
    """`kd` of logits standardised over the classes of each pixel (arXiv:2403.01427)."""

    needs_teacher, needs_labels = True, False
    mean_of = "pixels"
    kind: Literal["logit_std"] = "logit_std"
    temperature: Temperature = 2.0
    eps: Positive = 1e-7


class ChannelGroup(BaseTerm):
    """`cwd` over groups of channels, without τ² (SegDistill)."""

    needs_teacher, needs_labels = True, False
    mean_of = "images"
    kind: Literal["cgd"] = "cgd"
    temperature: Temperature = 2.0
    group: Annotated[int, Field(ge=1)] = Field(default=10, description="Channels of a group")


class OneForAll(Headed):
    """OFA-KD, between families of networks (arXiv:2310.19444), on logits and on `heads`."""

    needs_teacher, needs_labels = True, True
    mean_of = "pixels"
    kind: Literal["ofa"] = "ofa"
    temperature: Temperature = 1.0
    eps: Positive = Field(default=1.0, description="Exponent ε; above 1 it lifts the true class")
    head_weight: NonNegative = Field(default=1.0, description="Weight of each head's loss")


class BoundaryKd(BaseTerm):
    """`kd` near the borders of the labels, `cwd` inside of them (after arXiv:2306.08075)."""

    needs_teacher, needs_labels = True, True
    kind: Literal["boundary"] = "boundary"
    temperature: Temperature = 1.0
    band: Annotated[int, Field(ge=1, le=255)] = Field(
        default=3, description="Pixels of the logits' grid on either side of a border"
    )
    alpha: NonNegative = Field(default=1.0, description="Weight of the band")
    beta: NonNegative = Field(default=1.0, description="Weight of the inside")

"""What every term of an objective has, and the parts that several of them share."""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from kdcore.spec.base import Spec
from kdcore.spec.ramp import NonNegative, Weight

ClassWeights = (
    Literal["raw_inverse", "raw_inverse_sqrt", "raw_effective", "raw_median"]
    | Annotated[tuple[NonNegative, ...], Field(min_length=1)]
)
Taps = Literal["auto"] | tuple[tuple[str, str], ...]
Heads = Literal["auto"] | tuple[str, ...]

_STRUCTURE = frozenset(
    {"kind", "weight", "class_weights", "over", "taps", "adapter", "heads", "head_weight"}
)


class BaseTerm(Spec):
    """``needs_labels``: the classes of the labels matter, not only which pixels are ignored.

    ``mean_of``: what the value of a batch is the mean of, valid pixels or images with one; "batch"
    where it is none, since images meet in it, and parts of a batch do not add up to the whole.
    """

    needs_teacher: ClassVar[bool]
    needs_labels: ClassVar[bool]
    mean_of: ClassVar[Literal["pixels", "images", "batch"]] = "batch"
    weight: Weight = Field(default=1.0, description="A number or a ramp; logged before and after")

    @property
    def over_features(self) -> bool:
        """Whether student and teacher are compared by their features instead of their logits."""
        return False

    def hyperparameters(self) -> dict[str, Any]:
        """The keyword arguments of the loss function: the fields that are the formula's own."""
        return {
            name: getattr(self, name) for name in type(self).model_fields if name not in _STRUCTURE
        }


class Headed(BaseTerm):
    """A term that can also supervise stages of the student, each through a 1×1 head of its own.

    The term is then loss(logits) + head_weight · Σ loss(head(stage)); heads are trained beside the
    student and are no part of it.
    """

    heads: Heads = Field(
        default=(), description="Student stages such as `stride16`; `auto`: all from stride 4 on"
    )
    head_weight: NonNegative = Field(
        default=0.4, description="PSPNet's weight of its auxiliary loss (arXiv:1612.01105)"
    )


class OverFeatures(BaseTerm):
    """A term between stages of student and teacher; its value is the mean over the taps."""

    taps: Taps = Field(default="auto", description="(student, teacher) stages; `auto`: by stride")

    @property
    def over_features(self) -> bool:
        return True


class Adapted(OverFeatures):
    """A feature term that needs equal widths: a 1×1 projection of the student's where they differ."""

    adapter: Literal["auto", "always"] = Field(
        default="auto", description="`always`: a 1×1 projection also between equal widths"
    )

"""Numbers that may change over the training."""

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from kdcore.spec.base import Spec

Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]


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


def _stays_positive(ramp: Ramp) -> Ramp:
    if not (ramp.start > 0 and ramp.end > 0):
        raise ValueError("a temperature must stay above 0")
    return ramp


Weight = NonNegative | Ramp
Temperature = Positive | Annotated[Ramp, AfterValidator(_stays_positive)]

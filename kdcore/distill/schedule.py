"""The value of a weight at a step."""

import math

from kdcore.spec.objective import Ramp


def value_at(weight: float | Ramp, step: int, steps: int) -> float:
    """``weight`` at ``step`` (0-based) of ``steps``; the last step has a ramp's end value."""
    if not isinstance(weight, Ramp):
        return float(weight)
    begin, end = (0.0, 1.0) if weight.over == "train" else weight.over
    done = step / max(1, steps - 1)
    part = min(1.0, max(0.0, (done - begin) / (end - begin)))
    if weight.shape == "cosine":
        part = (1 - math.cos(math.pi * part)) / 2
    return weight.start + (weight.end - weight.start) * part

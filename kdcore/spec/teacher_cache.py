"""The teachers' logits kept on disk, and what an experiment must be like for that to be exact."""

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field

from kdcore.spec.base import Spec
from kdcore.spec.objective import Term
from kdcore.spec.train import TrainSpec


class TeacherCache(Spec):
    """Ask each teacher once for each view, and read its logits from then on.

    Needs `train.views`. What the cache holds never changes a training, only how long it takes.
    """

    quota_mb: Annotated[int, Field(ge=1, le=100_000_000)] = Field(
        default=10_000,
        description="10⁶ bytes on disk, of all runs together; beyond it none is kept",
    )
    dtype: Literal["fp32", "fp16"] = Field(
        default="fp32",
        description="fp32 keeps the logits as they are; fp16 halves them, each off by 2⁻¹¹ at most",
    )
    forward: Literal["batch", "single"] = Field(
        default="batch",
        description="batch: as without a cache, for runs of one batch size; single: view by view, "
        "for any batch size and any network, slower while the cache fills",
    )


def check_replayable(cache: TeacherCache | None, train: TrainSpec, terms: Sequence[Term]) -> None:
    """Raises: ValueError, which begins with the field at fault, where nothing could be replayed."""
    if cache is None:
        return
    if train.views is None:
        raise ValueError(
            "teacher_cache: views must come again to be found in it; set `train.views`, such as 4"
        )
    for index, term in enumerate(terms):
        if term.over_features:
            raise ValueError(
                f"objective.{index}: `{term.kind}` compares features, and `teacher_cache` keeps "
                "logits alone; leave one of the two out"
            )

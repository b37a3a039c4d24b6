"""JSON schemas of what a client may write."""

from functools import cache
from typing import Any, Final

from pydantic import TypeAdapter

from kdcore.spec import DatasetSource, experiment_adapter
from kdcore.spec.experiment import (
    DistillationExperiment,
    EvaluationExperiment,
    TrainingExperiment,
)

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"

KINDS: Final[dict[str, TypeAdapter[Any]]] = {
    "training": TypeAdapter(TrainingExperiment),
    "distillation": TypeAdapter(DistillationExperiment),
    "evaluation": TypeAdapter(EvaluationExperiment),
    "experiment": experiment_adapter,
    "dataset": TypeAdapter(DatasetSource),
}
_BODY_OF: Final = {"/datasets": "dataset", "/experiments": "experiment"}
"""Kind of the body by the last part of the route that takes it."""


@cache
def schema(kind: str) -> dict[str, Any]:
    """The schema of ``kind``, a key of `KINDS`."""
    return {
        "$schema": DIALECT,
        "$id": f"/v1/schemas/{kind}",
        **KINDS[kind].json_schema(by_alias=True, mode="validation"),
    }


def body_schema(route: str) -> dict[str, Any]:
    """The schema of the body that ``route`` takes."""
    return schema(_BODY_OF["/" + route.rsplit("/", 1)[1]])

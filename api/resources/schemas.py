"""JSON schemas of the specs, for editors and for clients in other languages."""

from enum import StrEnum
from typing import Any

from fastapi import APIRouter

from api.problems import Slug, failures
from api.spec_schemas import KINDS, schema

router = APIRouter(prefix="/schemas", tags=["schemas"])


class Kind(StrEnum):
    TRAINING = "training"
    DISTILLATION = "distillation"
    EVALUATION = "evaluation"
    EXPERIMENT = "experiment"
    DATASET = "dataset"


assert set(Kind) == set(KINDS)


@router.get("/{kind}", responses=failures(Slug.INVALID_PARAMETER))
def get_schema(kind: Kind) -> dict[str, Any]:
    """Draft 2020-12. `experiment` is the union that `POST /v1/experiments` takes."""
    return schema(kind)

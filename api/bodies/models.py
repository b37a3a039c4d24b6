"""Models and their versions, as answers."""

from datetime import datetime
from typing import Any
from uuid import UUID

from api.bodies.base import Body


class ModelFileBody(Body):
    sha256: str
    size: int


class ModelVersionBody(Body):
    id: UUID
    model: str
    number: int
    job_id: UUID
    digest: str
    files: dict[str, ModelFileBody]
    metrics: dict[str, Any]
    created_at: datetime


class ModelSummaryBody(Body):
    name: str
    versions: int
    latest: int
    created_at: datetime


class ModelBody(Body):
    """`aliases` are names on version numbers: `candidate` is on the newest."""

    name: str
    created_at: datetime
    versions: list[ModelVersionBody]
    aliases: dict[str, int]

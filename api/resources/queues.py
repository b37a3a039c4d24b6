"""Queues: how deep they are, who serves them, and closing one for maintenance."""

from typing import Annotated

from fastapi import APIRouter, Path, Query

from api.bodies.base import ListBody
from api.bodies.workers import QueueBody
from api.dependencies import CurrentLedger, CurrentOwner
from api.problems import Slug, failures
from worker.ledger import queues
from worker.ledger.queues import QueueView

router = APIRouter(prefix="/queues", tags=["queues"])

QueueName = Annotated[str, Path(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")]


@router.get("", response_model=ListBody[QueueBody], responses=failures())
def list_queues(ledger: CurrentLedger, _: CurrentOwner) -> ListBody[QueueBody]:
    """Those with jobs on their way or a live worker, and those that are closed."""
    with ledger.unit_of_work() as session:
        found = queues.list_queues(session)
    return ListBody(items=[QueueBody.model_validate(queue) for queue in found])


@router.get("/{name}", response_model=QueueBody, responses=failures(Slug.INVALID_PARAMETER))
def get_queue(name: QueueName, ledger: CurrentLedger, _: CurrentOwner) -> QueueView:
    """A queue that nobody has used is empty and open."""
    with ledger.unit_of_work() as session:
        return queues.get_queue(session, name)


@router.post("/{name}/close", response_model=QueueBody, responses=failures(Slug.INVALID_PARAMETER))
def close_queue(
    name: QueueName,
    ledger: CurrentLedger,
    _: CurrentOwner,
    reason: Annotated[
        str, Query(min_length=1, max_length=300, pattern=r"^[^\x00-\x1f]+$")
    ] = "maintenance",
) -> QueueView:
    """Jobs still come in and wait there; those that run go on; none is claimed."""
    with ledger.unit_of_work() as session:
        return queues.close_queue(session, name, reason)


@router.post("/{name}/open", response_model=QueueBody, responses=failures(Slug.INVALID_PARAMETER))
def open_queue(name: QueueName, ledger: CurrentLedger, _: CurrentOwner) -> QueueView:
    """Let workers claim from it again."""
    with ledger.unit_of_work() as session:
        return queues.open_queue(session, name)

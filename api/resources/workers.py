"""Workers: who there is, what each holds, and draining one before its machine goes away."""

from typing import Annotated

from fastapi import APIRouter, Path, Query

from api.bodies.base import ListBody
from api.bodies.workers import WorkerBody
from api.dependencies import CurrentLedger, CurrentOwner
from api.problems import Slug, failures
from worker.ledger import workers
from worker.ledger.workers import Drain, WorkerView

router = APIRouter(prefix="/workers", tags=["workers"])

WorkerName = Annotated[str, Path(max_length=255, pattern=r"^[\x21-\x7e]+$")]


@router.get("", response_model=ListBody[WorkerBody], responses=failures())
def list_workers(ledger: CurrentLedger, _: CurrentOwner) -> ListBody[WorkerBody]:
    """The live ones first; one that was not heard of for a week is forgotten."""
    with ledger.unit_of_work() as session:
        found = workers.list_workers(session)
    return ListBody(items=[WorkerBody.model_validate(worker) for worker in found])


@router.get(
    "/{name}",
    response_model=WorkerBody,
    responses=failures(Slug.NOT_FOUND, Slug.INVALID_PARAMETER),
)
def get_worker(name: WorkerName, ledger: CurrentLedger, _: CurrentOwner) -> WorkerView:
    with ledger.unit_of_work() as session:
        return workers.get_worker(session, name)


@router.post(
    "/{name}/drain",
    response_model=WorkerBody,
    responses=failures(Slug.NOT_FOUND, Slug.INVALID_PARAMETER),
)
def drain_worker(
    name: WorkerName,
    ledger: CurrentLedger,
    _: CurrentOwner,
    running: Annotated[
        Drain, Query(description="finish: let jobs end; evict: checkpoint, back to the queue")
    ] = Drain.FINISH,
) -> WorkerView:
    """It claims nothing more; its process goes on until it is stopped."""
    with ledger.unit_of_work() as session:
        return workers.drain_worker(session, name, running)


@router.post(
    "/{name}/resume",
    response_model=WorkerBody,
    responses=failures(Slug.NOT_FOUND, Slug.INVALID_PARAMETER),
)
def resume_worker(name: WorkerName, ledger: CurrentLedger, _: CurrentOwner) -> WorkerView:
    """It claims again."""
    with ledger.unit_of_work() as session:
        return workers.undrain_worker(session, name)

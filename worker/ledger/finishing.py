"""How an attempt ends, and what follows for its job and for the jobs that wait for it."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from kdcore.spec import Failure, FailureKind, Outcome, rundir
from worker.ledger.cancelling import CANCELLED
from worker.ledger.files import FileRef, below
from worker.ledger.locking import dependents, hold, lock_all
from worker.ledger.models import register_versions
from worker.ledger.propagation import cancel_dependents, enqueue_dependents
from worker.ledger.running import record_files, storable
from worker.ledger.states import AFTER_FAILURE, FRUITLESS_LIMIT, Action, AfterFailure, Phase
from worker.ledger.tables import AttemptRow, JobRow
from worker.ledger.transitions import transition
from worker.ledger.turns import is_in

MODEL_FILES = frozenset(
    path.removeprefix(f"{rundir.MODEL}/") for path in (rundir.MODEL_WEIGHTS, rundir.MODEL_CARD)
)


def finish(
    session: Session,
    *,
    job_id: UUID,
    attempt: int,
    outcome: Outcome,
    files: Mapping[str, FileRef],
    exit_status: int | None,
    verdict: Mapping[str, Any] | None = None,
) -> Phase:
    """Ends the attempt and says where the job stands now. Raises Fenced when the job is lost.

    ``files`` are already in the artefact store. A cancel that was asked for before this transaction
    wins over any outcome. A fit that succeeded without a model folder counts as garbled.
    """
    job = hold(session, job_id=job_id, attempt=attempt)
    record_files(session, job_id=job_id, attempt=attempt, files=files, step=None)
    if job.cancel_requested:
        return _cancel(session, job, exit_status)
    failure = _failure(job, outcome, files)
    if failure is not None:
        return _fail(session, job, failure, exit_status)
    return _succeed(session, job, outcome, exit_status, verdict)


def rescue(session: Session, *, limit: int = 100) -> list[UUID]:
    """Takes jobs away from holders whose lease has run out; the ids of those it took.

    A heartbeat that comes first renews the lease, and its job is left alone: whether the lease has
    run out is looked at again under the row's lock.
    """
    expired = is_in(Phase.RUNNING) & (JobRow.lease_until < func.now())
    found = set(
        session.scalars(select(JobRow.id).where(expired).order_by(JobRow.lease_until).limit(limit))
    )
    # Sources and dependents are locked in one go, so that the order of locks holds for all of them.
    lock_all(session, found | dependents(session, found))
    # A lock that was waited for may have brought newer rows; this statement sees them.
    jobs = session.scalars(
        select(JobRow)
        .where(JobRow.id.in_(found), expired)
        .order_by(JobRow.depth, JobRow.digest, JobRow.id)
        .execution_options(populate_existing=True)
    ).all()
    for job in jobs:
        if job.cancel_requested:
            _cancel(session, job, None)
        else:
            lost = f"worker {job.worker} stopped renewing its lease"
            _fail(session, job, Failure(kind=FailureKind.WORKER_LOST, message=lost), None)
    return [job.id for job in jobs]


def _failure(job: JobRow, outcome: Outcome, files: Mapping[str, FileRef]) -> Failure | None:
    match outcome.status:
        case "interrupted":
            stopped = Failure(kind=FailureKind.INTERRUPTED, message="the run was asked to stop")
            return outcome.failure or stopped
        case "failed":
            silent = Failure(
                kind=FailureKind.TRAINER_GARBLED, message="the run failed and gave no reason"
            )
            return outcome.failure or silent
        case "succeeded":
            if job.kind == "fit" and not below(rundir.MODEL, files).keys() >= MODEL_FILES:
                lacking = "the run reported success and left no model"
                return Failure(kind=FailureKind.TRAINER_GARBLED, message=lacking)
            return None


def _succeed(
    session: Session,
    job: JobRow,
    outcome: Outcome,
    exit_status: int | None,
    verdict: Mapping[str, Any] | None,
) -> Phase:
    metrics = dict(outcome.metrics)
    result: dict[str, Any] = {"metrics": metrics, "step": outcome.step}
    if verdict is not None:
        result["verdict"] = dict(verdict)
    moved = transition(
        session,
        Action.SUCCEED,
        job_id=job.id,
        phase=Phase.RUNNING,
        attempt=job.attempt,
        values={"result": result, "reason": None, "message": None, "failure": None},
        data={"metrics": metrics},
    )
    _close_attempt(session, job, "succeeded", exit_status, None)
    enqueue_dependents(session, job.id)
    register_versions(session, job_id=job.id)
    return moved.phase


def _fail(session: Session, job: JobRow, failure: Failure, exit_status: int | None) -> Phase:
    rule = AFTER_FAILURE[failure.kind]
    message = storable(failure.message)
    told = {
        "kind": failure.kind,
        "message": message,
        "field": failure.field and storable(failure.field),
        "remedy": failure.remedy and storable(failure.remedy),
    }
    counted = rule.limit is not None
    again = _may_try_again(session, job, failure.kind, rule)
    delay = _delay_seconds(job.fruitless, rule) if again else 0.0
    values = {
        "reason": failure.kind,
        "message": message,
        "fruitless": job.fruitless + 1 if counted else job.fruitless,
    }
    if again:
        values["not_before"] = func.now() + timedelta(seconds=delay)
    else:
        values["failure"] = told
    moved = transition(
        session,
        Action.RETRY if again else Action.FAIL,
        job_id=job.id,
        phase=Phase.RUNNING,
        attempt=job.attempt,
        values=values,
        data={"failure": told, "delay_seconds": delay} if again else {"failure": told},
    )
    _close_attempt(session, job, failure.kind, exit_status, message)
    if not again:
        cancel_dependents(session, job.id)
    return moved.phase


def _cancel(session: Session, job: JobRow, exit_status: int | None) -> Phase:
    moved = transition(
        session,
        Action.CANCEL,
        job_id=job.id,
        phase=Phase.RUNNING,
        attempt=job.attempt,
        values={"reason": func.coalesce(JobRow.reason, CANCELLED), "message": None},
        data={"reason": job.reason or CANCELLED},
    )
    _close_attempt(session, job, "cancelled", exit_status, None)
    cancel_dependents(session, job.id)
    return moved.phase


def _may_try_again(session: Session, job: JobRow, kind: FailureKind, rule: AfterFailure) -> bool:
    """Attempts of this kind are counted since the newest checkpoint, and so are all kinds together.

    Without the second count two kinds that take turns would go on for ever.
    """
    if rule.limit is None:
        return True
    if job.fruitless + 1 >= FRUITLESS_LIMIT:
        return False
    row = (
        select(AttemptRow.ended_as)
        .where(
            AttemptRow.job_id == job.id,
            AttemptRow.ended_as.is_not(None),
            AttemptRow.ended_as != FailureKind.INTERRUPTED,
        )
        .order_by(AttemptRow.number.desc())
        .limit(job.fruitless)
        .subquery()
    )
    earlier = session.scalar(select(func.count()).select_from(row).where(row.c.ended_as == kind))
    return (earlier or 0) + 1 < rule.limit


def _delay_seconds(fruitless: int, rule: AfterFailure) -> float:
    return min(rule.delay_seconds * 2.0**fruitless, rule.longest_delay_seconds)


def _close_attempt(
    session: Session, job: JobRow, ended_as: str, exit_status: int | None, message: str | None
) -> None:
    session.execute(
        update(AttemptRow)
        .where(AttemptRow.job_id == job.id, AttemptRow.number == job.attempt)
        .values(ended_at=func.now(), ended_as=ended_as, exit_status=exit_status, message=message)
        .execution_options(synchronize_session=False)
    )

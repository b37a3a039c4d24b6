"""Which files are still needed, and which of them go with time.

A content is needed as long as one row names it (`referenced`). Dataset revisions, their pictures
and model versions keep theirs for ever. The files of attempts are let go of by `expire`, each class
by its own rule; never those of the attempt that counts, and never what a live job goes on from.
"""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Select,
    Text,
    and_,
    delete,
    false,
    func,
    literal_column,
    or_,
    select,
    text,
    tuple_,
)
from sqlalchemy.orm import Session

from worker.ledger.states import Phase
from worker.ledger.tables import (
    ArtifactRow,
    JobRow,
    ModelVersionRow,
    RevisionRow,
    ThumbnailRow,
)

CHECKPOINTS_AT_LEAST = 2
"""A run goes on from the newest or, if that one is rotten, from the one before."""
LONG_STATEMENT = "SET LOCAL statement_timeout = '300s'"


@dataclass(frozen=True)
class Policy:
    """How long files are kept; None is for ever.

    ``checkpoints``: so many of the newest stay of every job, at least `CHECKPOINTS_AT_LEAST`.
    ``succeeded_days``: after that also these, of jobs that succeeded, whose model is what counts.
    ``failed_days``: the same for jobs that failed or were cancelled; a retry goes on from them.
    ``attempt_days``: logs and the like of attempts that another attempt followed.
    """

    checkpoints: int = CHECKPOINTS_AT_LEAST
    succeeded_days: float | None = 30.0
    failed_days: float | None = None
    attempt_days: float | None = 7.0


def expire(session: Session, policy: Policy, *, limit: int) -> int:
    """Forgets at most ``limit`` files that the policy keeps no longer; how many it were.

    A transaction that publishes at the same time only adds files, newer than those judged here.
    """
    session.execute(text(LONG_STATEMENT))
    key = (ArtifactRow.job_id, ArtifactRow.attempt, ArtifactRow.path)
    found = session.execute(_expired(policy).limit(limit)).all()
    if not found:
        return 0
    gone = delete(ArtifactRow).where(tuple_(*key).in_([tuple(row) for row in found]))
    session.execute(gone.execution_options(synchronize_session=False))
    return len(found)


def referenced(session: Session, *, shard: str) -> set[str]:
    """Every digest that starts with ``shard``, one hex digit, and that some row names."""
    session.execute(text(LONG_STATEMENT))
    queries: tuple[Select[str], ...] = (
        select(ArtifactRow.sha256),
        select(ThumbnailRow.sha256),
        select(_digests_in(RevisionRow.manifest)),
        select(_digests_in(ModelVersionRow.files)),
    )
    needed: set[str] = set()
    for query in queries:
        digest = query.subquery().c[0]
        named = select(digest).where(digest.startswith(shard)).distinct()
        needed.update(session.scalars(named.execution_options(yield_per=10_000)))
    return needed


def _digests_in(document: Any) -> Any:
    """Every member `sha256`, however deep, as text without quotes."""
    found = func.jsonb_path_query(document, literal_column("'strict $.**.sha256'"))
    return found.op("#>>", return_type=Text())(literal_column("'{}'"))


def _expired(policy: Policy) -> Select[Any, int, str]:
    """Keys of the rows."""
    of_job = ArtifactRow.job_id
    rank = func.dense_rank().over(partition_by=of_job, order_by=ArtifactRow.step.desc())
    newest = func.max(ArtifactRow.attempt).over(partition_by=(of_job, ArtifactRow.step))
    ranked = (
        select(
            of_job.label("job_id"),
            ArtifactRow.attempt.label("attempt"),
            ArtifactRow.path.label("path"),
            rank.label("rank"),
            newest.label("newest"),
        )
        .where(ArtifactRow.step.is_not(None))
        .subquery()
    )
    keep = max(policy.checkpoints, CHECKPOINTS_AT_LEAST)
    surplus = or_(ranked.c.rank > keep, ranked.c.attempt < ranked.c.newest)
    checkpoints = (
        select(ranked.c.job_id, ranked.c.attempt, ranked.c.path)
        .join(JobRow, JobRow.id == ranked.c.job_id)
        .where(
            or_(
                surplus,
                _ended_before(policy.succeeded_days, Phase.SUCCEEDED),
                _ended_before(policy.failed_days, Phase.FAILED, Phase.CANCELLED),
            )
        )
    )
    others = (
        select(of_job, ArtifactRow.attempt, ArtifactRow.path)
        .join(JobRow, JobRow.id == of_job)
        .where(
            ArtifactRow.step.is_(None),
            ArtifactRow.attempt < JobRow.attempt,
            _before(ArtifactRow.created_at, policy.attempt_days),
        )
    )
    both = checkpoints.union_all(others).subquery()
    return select(both.c.job_id, both.c.attempt, both.c.path)


def _ended_before(days: float | None, *phases: Phase) -> ColumnElement[bool]:
    return and_(JobRow.phase.in_(phases), _before(JobRow.finished_at, days))


def _before(moment: Any, days: float | None) -> ColumnElement[bool]:
    if days is None:
        return false()
    return moment < func.now() - timedelta(days=days)  # type: ignore[no-any-return]

"""Trying again what failed or was cancelled: a new job takes the place of the old one.

The old row stays as it ended. The new one goes on from the old one's last checkpoint, stands in the
experiments under the old one's keys, and brings back the jobs that were cancelled because the old
one made no result. If equal work lives already, that is shared instead.
"""

from collections.abc import Collection, Iterable
from uuid import UUID

from sqlalchemy import insert, literal, select, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.orm import Session

from worker.ledger.deadlines import expires_at
from worker.ledger.errors import NotAllowedNow, NotFound
from worker.ledger.locking import locked
from worker.ledger.models import model_name, register_versions
from worker.ledger.overview import get_experiment
from worker.ledger.placing import Placed, Work, announce, offered, place
from worker.ledger.reading import get_job
from worker.ledger.states import ENDED_BADLY, TERMINAL, Phase
from worker.ledger.steering import hold_experiments
from worker.ledger.tables import (
    ExperimentJobRow,
    ExperimentRow,
    FormerJobRow,
    JobRow,
    MetricRow,
)
from worker.ledger.views import ExperimentView, JobView
from worker.ledger.web import Web, usable


def retry_job(session: Session, *, owner: str, id: UUID) -> JobView:
    """The job that now does the work; asking twice is the same while that one lives.

    What feeds the job and failed too is tried again with it. Raises NotFound, and NotAllowedNow
    when the job has not failed, or when no experiment waits for it any more.
    """
    job = session.scalar(select(JobRow).where(JobRow.id == id, JobRow.owner == owner))
    if job is None:
        raise NotFound(f"no job {id}")
    if job.phase not in ENDED_BADLY:
        raise NotAllowedNow(
            f"the job is {job.phase}; only a failed or cancelled one is tried again"
        )
    waiting = _hold_those_who_wait(session, id)
    if not waiting:
        return get_job(session, owner=owner, id=_already_again(session, job))
    placed = _try_again(session, owner, waiting, [job.digest])
    return get_job(session, owner=owner, id=placed[job.digest].id)


def retry_experiment(session: Session, *, owner: str, id: UUID) -> ExperimentView:
    """Tries again all of its jobs that failed or were cancelled; its deadline starts anew.

    Raises NotFound, and NotAllowedNow when nothing of it failed, or while it is being cancelled.
    """
    held = hold_experiments(session, ExperimentRow.id == id, ExperimentRow.owner == owner)
    if not held:
        raise NotFound(f"no experiment {id}")
    before = get_experiment(session, owner=owner, id=id)
    if before.cancel_requested and before.phase not in TERMINAL:
        raise NotAllowedNow("the experiment is still being cancelled")
    failed = {job.digest for job in before.jobs if job.phase in ENDED_BADLY}
    if not failed and not before.cancel_requested:
        raise NotAllowedNow("nothing of the experiment has failed or was cancelled")
    session.execute(
        update(ExperimentRow)
        .where(ExperimentRow.id == id)
        .values(
            cancel_requested=False,
            paused=False,
            expires_at=expires_at(before.spec.get("deadline_seconds")),
        )
        .execution_options(synchronize_session=False)
    )
    _try_again(session, owner, [id], failed)
    return get_experiment(session, owner=owner, id=id)


def _hold_those_who_wait(session: Session, job_id: UUID) -> list[UUID]:
    """Locked experiments that have the job and are not cancelled."""
    linked = select(ExperimentJobRow.experiment_id).where(ExperimentJobRow.job_id == job_id)
    guards = (ExperimentRow.id.in_(linked), ~ExperimentRow.cancel_requested)
    held = [row.id for row in hold_experiments(session, *guards)]
    # Whoever was waited for may have put another job in this one's place.
    return list(session.scalars(linked.where(ExperimentJobRow.experiment_id.in_(held)).distinct()))


def _already_again(session: Session, job: JobRow) -> UUID:
    live = session.scalar(select(JobRow.id).where(*offered(job.owner), JobRow.digest == job.digest))
    if live is None:
        raise NotAllowedNow(
            "no experiment waits for this job: each was cancelled, or has tried again since"
        )
    return live


def _try_again(
    session: Session, owner: str, experiments: Collection[UUID], failed: Iterable[str]
) -> dict[str, Placed]:
    """The jobs that now do the work of these digests and of what belongs to it; by digest.

    The experiments are held, so no link of theirs changes meanwhile.
    """
    web = Web.of(session, experiments)
    placed = dict(web.succeeded)
    order = web.to_place(failed)
    works: list[tuple[Placed, Work]] = []
    for digest in order:
        standing = _lock_standing(session, web.standing[digest])
        if standing is None:
            work = web.work(digest, placed)
            standing = place(session, owner, work)
            works.append((standing, work))
        placed[digest] = standing
    announce(session, works)
    for row, work in works:
        if row.created and work.checkpoint_step is not None:
            _copy_curve(session, work, row.id)
    for digest in order:
        _relink(session, experiments, web.replaceable(digest), placed[digest])
    _register_reused(session, experiments, [placed[digest].id for digest in order])
    return placed


def _lock_standing(session: Session, found: JobRow) -> Placed | None:
    """``found`` if it succeeded, or lives and will not be cancelled before this transaction ends."""
    if found.phase in ENDED_BADLY:
        return None
    job = session.scalars(locked().where(JobRow.id == found.id)).one()
    return Placed(job.id, Phase(job.phase), created=False) if usable(job) else None


def _copy_curve(session: Session, work: Work, job_id: UUID) -> None:
    """The metrics up to the checkpoint are the new job's too."""
    before = select(
        literal(job_id), MetricRow.key, MetricRow.step, MetricRow.value, MetricRow.at
    ).where(MetricRow.job_id == work.retry_of, MetricRow.step <= work.checkpoint_step)
    session.execute(insert(MetricRow).from_select(["job_id", "key", "step", "value", "at"], before))


def _relink(
    session: Session, experiments: Collection[UUID], old: Collection[UUID], new: Placed
) -> None:
    """Puts ``new`` under the keys of ``old``, and keeps what stood there."""
    moved = (
        ExperimentJobRow.experiment_id.in_(experiments),
        ExperimentJobRow.job_id.in_(old),
        ExperimentJobRow.job_id != new.id,
    )
    columns = ["experiment_id", "key", "job_id"]
    session.execute(
        upsert(FormerJobRow)
        .from_select(
            columns,
            select(
                ExperimentJobRow.experiment_id, ExperimentJobRow.key, ExperimentJobRow.job_id
            ).where(*moved),
        )
        .on_conflict_do_nothing()
    )
    session.execute(
        update(ExperimentJobRow)
        .where(*moved)
        .values(job_id=new.id, reused=not new.created)
        .execution_options(synchronize_session=False)
    )


def _register_reused(
    session: Session, experiments: Collection[UUID], placed: Collection[UUID]
) -> None:
    """What somebody else has trained meanwhile becomes a version in these experiments' names."""
    links = session.execute(
        select(
            ExperimentRow.name, ExperimentJobRow.key, ExperimentJobRow.role,
            ExperimentJobRow.job_id, ExperimentJobRow.experiment_id,
        )
        .join(ExperimentRow, ExperimentRow.id == ExperimentJobRow.experiment_id)
        .where(
            ExperimentJobRow.experiment_id.in_(experiments), ExperimentJobRow.job_id.in_(placed)
        )
    ).all()  # fmt: skip
    for link in sorted(links, key=lambda link: model_name(link.name, link.key, link.role)):
        register_versions(session, job_id=link.job_id, experiment_id=link.experiment_id)

"""What the ledger shall do, in plain Python: no locks, no SQL, no concurrency.

It does not say which work is shared and what a retry brings back; there it takes over the rows that
the ledger made, and the state machine looks whether they make sense.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from uuid import UUID

from kdcore.spec import FailureKind
from worker.ledger import Phase
from worker.ledger.states import AFTER_FAILURE, FRUITLESS_LIMIT, TERMINAL
from worker.ledger.views import ExperimentView, JobView


@dataclass
class Job:
    id: UUID
    key: str
    sources: frozenset[UUID]
    phase: Phase
    reason: str | None = None
    paused: bool = False
    cancel_requested: bool = False
    attempt: int = 0
    checkpoint: int | None = None
    failures: list[FailureKind] = field(default_factory=list)
    """Since the newest checkpoint."""

    @property
    def live(self) -> bool:
        return self.phase not in TERMINAL

    def seen(self) -> tuple[object, ...]:
        """What must be equal in a `JobView`."""
        return self.phase, self.paused, self.cancel_requested, self.attempt, self.checkpoint


def seen(view: JobView) -> tuple[object, ...]:
    return view.phase, view.paused, view.cancel_requested, view.attempt, view.checkpoint_step


@dataclass
class Experiment:
    id: UUID
    jobs: dict[str, UUID]
    cancelled: bool = False
    paused: bool = False


@dataclass
class Model:
    jobs: dict[UUID, Job] = field(default_factory=dict)
    experiments: dict[UUID, Experiment] = field(default_factory=dict)

    def adopt(self, view: ExperimentView) -> list[Job]:
        """The experiment as the ledger has it; the jobs that were not known before."""
        self.experiments[view.id] = Experiment(
            view.id, {str(job.key): job.id for job in view.jobs}, view.cancel_requested, view.paused
        )
        new = [_job(job) for job in view.jobs if job.id not in self.jobs]
        self.jobs.update({job.id: job for job in new})
        return new

    def claimable(self) -> set[UUID]:
        return {
            job.id for job in self.jobs.values() if job.phase is Phase.QUEUED and not job.paused
        }

    def claim(self, id: UUID) -> None:
        job = self.jobs[id]
        job.phase, job.attempt, job.reason = Phase.RUNNING, job.attempt + 1, None

    def holds(self, id: UUID, attempt: int) -> bool:
        job = self.jobs[id]
        return job.phase is Phase.RUNNING and job.attempt == attempt

    def publish(self, id: UUID, step: int) -> None:
        job = self.jobs[id]
        if job.checkpoint is None or step > job.checkpoint:
            job.checkpoint, job.failures = step, []

    def succeed(self, id: UUID) -> None:
        job = self.jobs[id]
        if job.cancel_requested:
            self._end_cancelled(job)
            return
        job.phase = Phase.SUCCEEDED
        for each in self.jobs.values():
            if each.phase is Phase.WAITING and self._ready(each):
                each.phase = Phase.QUEUED

    def fail(self, id: UUID, kind: FailureKind) -> None:
        job = self.jobs[id]
        if job.cancel_requested:
            self._end_cancelled(job)
            return
        limit = AFTER_FAILURE[kind].limit
        if limit is not None:
            job.failures.append(kind)
        over = limit is not None and (
            job.failures.count(kind) >= limit or len(job.failures) >= FRUITLESS_LIMIT
        )
        job.phase = Phase.FAILED if over else Phase.QUEUED
        if over:
            self._fell(job)

    def cancel(self, id: UUID) -> None:
        job = self.jobs[id]
        if job.phase is Phase.RUNNING:
            job.cancel_requested = True
        else:
            job.phase, job.reason = Phase.CANCELLED, "cancelled"
        self._fell(job)

    def cancel_experiment(self, id: UUID) -> None:
        self.experiments[id].cancelled = True
        unwanted = [job for job in self._live(id) if not self._wanted(job, even_paused=True)]
        for job in unwanted:
            if job.live:
                self.cancel(job.id)

    def pause_experiment(self, id: UUID) -> None:
        self.experiments[id].paused = True
        for job in self._live(id):
            if not self._wanted(job, even_paused=False) and not job.cancel_requested:
                job.paused = True

    def resume_experiment(self, id: UUID) -> None:
        self.experiments[id].paused = False
        for job in self._live(id):
            job.paused = False

    def has_ended(self, id: UUID) -> bool:
        """A shared job that goes on for somebody else does not keep a cancelled one alive."""
        cancelled = self.experiments[id].cancelled
        return not any(not cancelled or job.cancel_requested for job in self._live(id))

    def _live(self, experiment_id: UUID) -> list[Job]:
        ids = dict.fromkeys(self.experiments[experiment_id].jobs.values())
        return [self.jobs[id] for id in ids if self.jobs[id].live]

    def _wanted(self, job: Job, *, even_paused: bool) -> bool:
        return any(
            job.id in experiment.jobs.values()
            and not experiment.cancelled
            and (even_paused or not experiment.paused)
            for experiment in self.experiments.values()
        )

    def _ready(self, job: Job) -> bool:
        return all(self.jobs[id].phase is Phase.SUCCEEDED for id in job.sources)

    def _end_cancelled(self, job: Job) -> None:
        job.phase = Phase.CANCELLED
        self._fell(job)

    def _fell(self, job: Job) -> None:
        """It makes no result, nor do those that wait for it, and those that wait for them."""
        for each in self._behind(job):
            each.phase, each.reason = Phase.CANCELLED, "input_failed"
            self._fell(each)

    def _behind(self, job: Job) -> Iterable[Job]:
        return [
            each
            for each in self.jobs.values()
            if each.phase is Phase.WAITING and job.id in each.sources
        ]


def _job(view: JobView) -> Job:
    return Job(
        id=view.id,
        key=str(view.key),
        sources=frozenset(view.needs),
        phase=view.phase,
        reason=view.reason,
        paused=view.paused,
        cancel_requested=view.cancel_requested,
        attempt=view.attempt,
        checkpoint=view.checkpoint_step,
    )

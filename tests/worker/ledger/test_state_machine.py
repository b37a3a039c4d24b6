"""The real ledger beside a plain model: whatever the order of the moves, both agree.

``KD_EXAMPLES=500`` looks at so many random walks instead of the few that are always the same.
"""

import os
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, assume, note, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import text

from kdcore.spec import Experiment, FailureKind
from tests.worker.ledger import making
from tests.worker.ledger.plain_model import Model, seen
from worker.ledger import Fenced, Ledger, NotAllowedNow, Phase
from worker.ledger.experiments import (
    cancel_experiment,
    pause_experiment,
    resume_experiment,
    retry_experiment,
)
from worker.ledger.jobs import Claim, Directive
from worker.ledger.states import ENDED_BADLY, TERMINAL

EXAMPLES = os.environ.get("KD_EXAMPLES")
WALKS = settings(
    max_examples=int(EXAMPLES or 25),
    stateful_step_count=40,
    deadline=None,
    derandomize=EXAMPLES is None,
    suppress_health_check=list(HealthCheck),
)
NUMBERS = st.integers(0, 1000)
"""Which of several: the number modulo how many there are."""

FAILURES = st.sampled_from(
    [
        FailureKind.CODE_ERROR,
        FailureKind.INTERRUPTED,
        FailureKind.TRAINER_KILLED,
        FailureKind.TRAINER_KILLED,
        FailureKind.OUT_OF_MEMORY,
    ]
)


class Lives(RuleBasedStateMachine):
    """Submissions that overlap, workers with claims old and new, owners who change their minds."""

    def __init__(self, ledger: Ledger) -> None:
        super().__init__()
        self.ledger = ledger
        self.model = Model()
        self.claims: list[Claim] = []
        self.ended: dict[UUID, Any] = {}
        with ledger.unit_of_work() as session:
            session.execute(text("TRUNCATE jobs, experiments, datasets, models CASCADE"))
        making.register(ledger)

    @rule(which=st.integers(0, 3), force=st.sampled_from([False, False, False, True]))
    def submit(self, which: int, force: bool) -> None:
        assume(len(self.model.experiments) < 8)
        number = len(self.model.experiments)
        made: list[Experiment] = [
            making.training(name=f"e{number}"),
            making.training(name=f"e{number}", seeds=[0, 1]),
            making.distillation(name=f"e{number}"),
            making.distillation(name=f"e{number}", baseline=False),
        ]
        before = {id: job.phase for id, job in self.model.jobs.items()}
        view = making.experiment(self.ledger, making.submit(self.ledger, made[which], force=force))
        new = {job.id for job in self.model.adopt(view)}
        for job in view.jobs:
            assert job.reused is (job.id not in new)
            if job.reused:
                assert not force
                assert before[job.id] not in ENDED_BADLY
                self.model.jobs[job.id].paused &= not self.model.jobs[job.id].live
                assert job.phase is Phase.SUCCEEDED or not job.cancel_requested
            else:
                assert not job.paused

    @rule(wake_ups=st.integers(1, 3))
    def claim(self, wake_ups: int) -> None:
        """A wake-up too many finds nothing, or another job."""
        for _ in range(wake_ups):
            claimable = self.model.claimable()
            with self.ledger.unit_of_work() as session:
                session.execute(text("UPDATE jobs SET not_before = now() WHERE phase = 'queued'"))
            claim = making.try_take(self.ledger)
            assert (claim is None) == (not claimable)
            if claim is not None:
                assert claim.job_id in claimable
                self.model.claim(claim.job_id)
                self.claims.append(claim)
                wanted = self.model.jobs[claim.job_id].checkpoint
                assert (claim.checkpoint and claim.checkpoint.step) == wanted

    @precondition(lambda self: self.claims)
    @rule(number=NUMBERS)
    def heartbeat(self, number: int) -> None:
        claim = self._claim(number)
        if self._fenced(claim, lambda: making.heartbeat(self.ledger, claim)):
            return
        job = self.model.jobs[claim.job_id]
        wanted = Directive.PAUSE if job.paused else Directive.CONTINUE
        wanted = Directive.CANCEL if job.cancel_requested else wanted
        assert making.heartbeat(self.ledger, claim) is wanted

    @precondition(lambda self: self.claims)
    @rule(number=NUMBERS, step=st.integers(1, 20))
    def relay_and_publish(self, number: int, step: int) -> None:
        claim = self._claim(number)
        told = [making.metric(step, loss=1.0), making.progress(step)]
        if self._fenced(claim, lambda: making.relay(self.ledger, claim, told)):
            with pytest.raises(Fenced):
                making.publish(self.ledger, claim, step)
            return
        making.publish(self.ledger, claim, step)
        self.model.publish(claim.job_id, step)

    @precondition(lambda self: self.claims)
    @rule(number=NUMBERS)
    def succeed(self, number: int) -> None:
        claim = self._claim(number)
        if not self._fenced(claim, lambda: making.succeed(self.ledger, claim)):
            self.model.succeed(claim.job_id)

    @precondition(lambda self: self.claims)
    @rule(number=NUMBERS, kind=FAILURES)
    def fail(self, number: int, kind: FailureKind) -> None:
        claim = self._claim(number)
        if not self._fenced(claim, lambda: making.fail(self.ledger, claim, kind)):
            self.model.fail(claim.job_id, kind)

    @precondition(lambda self: self.claims)
    @rule(numbers=st.sets(NUMBERS, max_size=3))
    def jump_and_rescue(self, numbers: set[int]) -> None:
        """The clock jumps over some leases."""
        late = {self._claim(number).job_id for number in numbers}
        late = {id for id in late if self.model.jobs[id].phase is Phase.RUNNING}
        for id in late:
            making.expire_lease(self.ledger, id)
        assert set(making.rescue(self.ledger)) == late
        for id in late:
            self.model.fail(id, FailureKind.WORKER_LOST)

    @precondition(lambda self: self.model.jobs)
    @rule(number=NUMBERS)
    def cancel(self, number: int) -> None:
        job = self._job(number)
        if not self._refused(not job.live, lambda: making.cancel(self.ledger, job.id)):
            self.model.cancel(job.id)

    @precondition(lambda self: self.model.jobs)
    @rule(number=NUMBERS)
    def pause(self, number: int) -> None:
        job = self._job(number)
        refused = not job.live or job.cancel_requested
        if not self._refused(refused, lambda: making.pause(self.ledger, job.id)):
            job.paused = True

    @precondition(lambda self: self.model.jobs)
    @rule(number=NUMBERS)
    def resume(self, number: int) -> None:
        job = self._job(number)
        if not self._refused(not job.live, lambda: making.resume(self.ledger, job.id)):
            job.paused = False

    @precondition(lambda self: self.model.experiments)
    @rule(number=NUMBERS, what=st.sampled_from(["cancel", "pause", "resume"]))
    def steer(self, number: int, what: str) -> None:
        id = self._experiment(number)
        action = {
            "cancel": (cancel_experiment, self.model.cancel_experiment),
            "pause": (pause_experiment, self.model.pause_experiment),
            "resume": (resume_experiment, self.model.resume_experiment),
        }[what]
        refused = self.model.has_ended(id) or (
            what != "cancel" and self.model.experiments[id].cancelled
        )
        if not self._refused(refused, lambda: making.steer(self.ledger, action[0], id)):
            action[1](id)

    @precondition(lambda self: self.model.jobs)
    @rule(number=NUMBERS)
    def retry(self, number: int) -> None:
        job = self._job(number)
        waiting = [
            experiment.id
            for experiment in self.model.experiments.values()
            if job.id in experiment.jobs.values() and not experiment.cancelled
        ]
        try:
            again = making.retry(self.ledger, job.id)
        except NotAllowedNow:
            assert job.phase not in ENDED_BADLY or not waiting
            return
        assert job.phase in ENDED_BADLY
        assert again.id != job.id
        assert again.phase not in ENDED_BADLY
        self._adopt_again()
        for id in waiting:
            assert again.id in self.model.experiments[id].jobs.values()

    @precondition(lambda self: self.model.experiments)
    @rule(number=NUMBERS)
    def retry_whole(self, number: int) -> None:
        id = self._experiment(number)
        experiment = self.model.experiments[id]
        bad = any(self.model.jobs[job].phase in ENDED_BADLY for job in experiment.jobs.values())
        refused = (experiment.cancelled and not self.model.has_ended(id)) or not (
            bad or experiment.cancelled
        )
        if self._refused(refused, lambda: making.steer(self.ledger, retry_experiment, id)):
            return
        self._adopt_again()
        assert not experiment_is_over_badly(self.model, id)

    @invariant()
    def they_agree(self) -> None:
        shown = {}
        for id in self.model.experiments:
            view = making.experiment(self.ledger, id)
            assert (view.phase in TERMINAL) == self.model.has_ended(id)
            shown.update({job.id: job for job in view.jobs})
        for id, view in shown.items():
            assert seen(view) == self.model.jobs[id].seen(), (view.key, view.phase)

    @invariant()
    def what_has_ended_stays(self) -> None:
        with self.ledger.unit_of_work() as session:
            rows = session.execute(
                text(
                    "SELECT id, phase, attempt, reason, result, finished_at, event_number FROM jobs"
                    " WHERE phase IN ('succeeded', 'failed', 'cancelled')"
                )
            ).all()
        ended = {row.id: tuple(row) for row in rows}
        assert {id: ended.get(id) for id in self.ended} == self.ended
        self.ended = ended

    @invariant()
    def nothing_hangs(self) -> None:
        """No job waits for what will never come, or for what is there already."""
        with self.ledger.unit_of_work() as session:
            hanging = session.execute(
                text(
                    "SELECT j.id FROM jobs j WHERE j.phase IN ('waiting', 'queued') AND ("
                    " (j.phase = 'waiting') <> EXISTS (SELECT FROM job_inputs i JOIN jobs s"
                    "  ON s.id = i.source_job_id WHERE i.job_id = j.id AND s.phase <> 'succeeded')"
                    " OR EXISTS (SELECT FROM job_inputs i JOIN jobs s ON s.id = i.source_job_id"
                    "  WHERE i.job_id = j.id AND (s.phase IN ('failed', 'cancelled')"
                    "   OR s.cancel_requested)))"
                )
            ).all()
            gaps = session.execute(
                text(
                    "SELECT j.id FROM jobs j LEFT JOIN events e ON e.job_id = j.id"
                    " GROUP BY j.id HAVING count(e.number) <> j.event_number"
                    " OR coalesce(max(e.number), 0) <> j.event_number"
                )
            ).all()
        assert not hanging
        assert not gaps

    def _adopt_again(self) -> None:
        """What a retry made: rows of its own in the place of those that ended badly."""
        for id, experiment in list(self.model.experiments.items()):
            before = dict(experiment.jobs)
            view = making.experiment(self.ledger, id)
            self.model.adopt(view)
            for job in view.jobs:
                old = self.model.jobs[before[str(job.key)]]
                assert old.id == job.id or not old.live or old.cancel_requested
                if old.id == job.id or job.reused:
                    self.model.jobs[job.id].paused &= job.paused

    def _fenced(self, claim: Claim, write: Any) -> bool:
        """Does ``write``; whether the claim is an old one, and then that it was refused."""
        if self.model.holds(claim.job_id, claim.attempt):
            write()
            return False
        note(f"attempt {claim.attempt} of {claim.job_id} is fenced")
        with pytest.raises(Fenced):
            write()
        return True

    def _refused(self, refused: bool, move: Any) -> bool:
        if refused:
            with pytest.raises(NotAllowedNow):
                move()
        else:
            move()
        return refused

    def _claim(self, number: int) -> Claim:
        """Mostly one of the last."""
        return self.claims[-1 - number % min(4, len(self.claims))]

    def _job(self, number: int) -> Any:
        jobs = list(self.model.jobs.values())
        return jobs[number % len(jobs)]

    def _experiment(self, number: int) -> UUID:
        return list(self.model.experiments)[number % len(self.model.experiments)]


def experiment_is_over_badly(model: Model, id: UUID) -> bool:
    return any(model.jobs[job].phase in ENDED_BADLY for job in model.experiments[id].jobs.values())


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_ledger_and_the_model_agree(ledger: Ledger) -> None:
    run_state_machine_as_test(lambda: Lives(ledger), settings=WALKS)

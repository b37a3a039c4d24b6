"""The run of each experiment, above those of its jobs."""

from typing import Final

import structlog
from mlflow.exceptions import MlflowException

from worker.ledger.experiment_runs import (
    LinkedRun,
    PendingExperiment,
    close_experiment_run,
    mark_told,
    pending_experiments,
    set_experiment_run,
)
from worker.ledger.session import Ledger
from worker.tracking.homes import Homes
from worker.tracking.names import flattened
from worker.tracking.refusals import first_line, is_refusal
from worker.tracking.resting import Resting
from worker.tracking.runs import Runs
from worker.tracking.tags import (
    EXPERIMENT_TAG,
    EXPERIMENTS_TAG,
    NOTE_TAG,
    experiment_tags,
    experiments_tag,
)

log = structlog.get_logger()
EXPERIMENTS_A_ROUND: Final = 50


class ExperimentRuns:
    """What `pending_experiments` says is missing, one experiment at a time."""

    def __init__(self, runs: Runs, homes: Homes, *, ledger: Ledger) -> None:
        self._runs = runs
        self._homes = homes
        self._ledger = ledger

    def waiting(self, resting: Resting) -> list[PendingExperiment]:
        with self._ledger.unit_of_work() as session:
            return pending_experiments(session, limit=EXPERIMENTS_A_ROUND, skip=resting.now())

    def bring(self, experiment: PendingExperiment) -> None:
        """Raises MlflowException, LedgerUnavailable; nothing is made twice by that."""
        run_id = experiment.run_id
        if experiment.started:
            run_id = run_id or self._make(experiment)
            try:
                self._tell(run_id, experiment)
                if experiment.complete:
                    self._close(run_id, experiment)
            except MlflowException as error:
                if not is_refusal(error):
                    raise
                # It was deleted on the server, for example.
                refused = str(experiment.id)
                log.warning("tracking.refused", experiment=refused, reason=first_line(error))
        with self._ledger.unit_of_work() as session:
            mark_told(session, experiment_id=experiment.id, runs=experiment.runs)
            if experiment.complete:
                close_experiment_run(session, experiment_id=experiment.id, run_id=run_id)

    def _make(self, experiment: PendingExperiment) -> str:
        found = self._runs.find(experiment.owner, EXPERIMENT_TAG, str(experiment.id))
        made = (
            found[0]
            if found
            else self._runs.create(
                experiment.owner,
                experiment.name,
                experiment_tags(experiment),
                experiment.created_at,
            )
        )
        try:
            self._runs.log_params(made, flattened(experiment.spec))
        except MlflowException as error:
            if not is_refusal(error):
                raise
            refused = str(experiment.id)
            log.warning("tracking.params_refused", experiment=refused, reason=first_line(error))
        with self._ledger.unit_of_work() as session:
            return set_experiment_run(session, experiment_id=experiment.id, run_id=made)

    def _tell(self, run_id: str, experiment: PendingExperiment) -> None:
        """A run lies below one experiment's; each other that shares the job is in its tag."""
        untold = [run for run in experiment.runs if not run.told]
        if not untold:
            return
        for run in untold:
            if run.experiment_ids[0] != experiment.id:
                self._tag_shared(run)
        self._runs.set_tags(run_id, {NOTE_TAG: self._note(experiment)})
        if not experiment.complete:
            self._runs.reopen(run_id)  # a retry may have come after its end

    def _tag_shared(self, run: LinkedRun) -> None:
        try:
            self._runs.set_tags(run.run_id, {EXPERIMENTS_TAG: experiments_tag(run.experiment_ids)})
        except MlflowException as error:
            if not is_refusal(error):
                raise
            log.warning("tracking.refused", job=str(run.job_id), reason=first_line(error))

    def _close(self, run_id: str, experiment: PendingExperiment) -> None:
        for twin in self._runs.find(experiment.owner, EXPERIMENT_TAG, str(experiment.id)):
            if twin != run_id:
                self._runs.delete(twin)  # an answer was lost, or two made it at once
        self._runs.end(run_id, experiment.phase, experiment.finished_at)

    def _note(self, experiment: PendingExperiment) -> str:
        """Links to the runs of its jobs, also to those that were there before it."""
        home = f"#/experiments/{self._homes.of(experiment.owner)}/runs"
        lines = [f"- [{run.key}]({home}/{run.run_id})" for run in experiment.runs]
        return "\n".join([f"Jobs of experiment `{experiment.id}`:", "", *lines])

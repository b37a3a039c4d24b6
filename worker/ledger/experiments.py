"""Experiments: submitting them, looking at them, cancelling, pausing and trying them again."""

from worker.ledger.overview import get_experiment, list_experiments
from worker.ledger.retrying import retry_experiment
from worker.ledger.steering import cancel_experiment, pause_experiment, resume_experiment
from worker.ledger.submission import Submission, preview, submit
from worker.ledger.views import ExperimentSummary, ExperimentView, PlannedView

__all__ = [
    "ExperimentSummary",
    "ExperimentView",
    "PlannedView",
    "Submission",
    "cancel_experiment",
    "get_experiment",
    "list_experiments",
    "pause_experiment",
    "preview",
    "resume_experiment",
    "retry_experiment",
    "submit",
]

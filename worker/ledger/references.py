"""What an experiment names that must exist and fit: models, their classes, weights."""

from collections.abc import Iterator

from sqlalchemy import select
from sqlalchemy.orm import Session

from kdcore.spec import Experiment
from kdcore.spec.experiment import DistillationExperiment, EvaluationExperiment, models_of
from worker.ledger.datasets import RevisionKey
from worker.ledger.errors import InvalidReference
from worker.ledger.models import ModelVersion, resolve
from worker.ledger.tables import JobRow, RevisionRow


def stored_models(
    session: Session, *, owner: str, experiment: Experiment, revision: RevisionKey
) -> dict[str, ModelVersion]:
    """Versions by their reference. Raises InvalidReference, naming the field."""
    _refuse_local_weights(experiment)
    versions: dict[str, ModelVersion] = {}
    for field, ref in _model_references(experiment):
        versions[ref] = resolve(session, owner=owner, ref=ref, field=field)
        _refuse_other_classes(session, versions[ref], revision, field)
    return versions


def _refuse_local_weights(experiment: Experiment) -> None:
    """A path would name a file of whatever worker the job comes to, and let clients look for files."""
    for field, model in models_of(experiment):
        if model.weights not in (None, "imagenet"):
            raise InvalidReference(
                "a service takes no path of a weights file; leave it out, or say `imagenet`",
                field=f"{field}.weights",
            )


def _model_references(experiment: Experiment) -> Iterator[tuple[str, str]]:
    """Each reference to a stored model, with the field it stands in."""
    match experiment:
        case DistillationExperiment():
            for index, teacher in enumerate(experiment.teachers):
                if teacher.model is not None:
                    yield f"teachers.{index}.model", teacher.model
        case EvaluationExperiment():
            for index, ref in enumerate(experiment.models):
                yield f"models.{index}", ref
        case _:
            return


def _refuse_other_classes(
    session: Session, version: ModelVersion, revision: RevisionKey, field: str
) -> None:
    """A model means the classes of the dataset it was trained on, by their order."""
    classes = RevisionRow.manifest["classes"]
    trained_on = (
        select(classes)
        .join(JobRow, JobRow.revision_id == RevisionRow.id)
        .where(JobRow.id == version.job_id)
    )
    asked_for = select(classes).where(RevisionRow.id == revision.id)
    has, wanted = (
        [entry["name"] for entry in session.scalar(query) or ()]
        for query in (trained_on, asked_for)
    )
    if has != wanted:
        raise InvalidReference(
            f"{version.model} version {version.number} knows the classes {', '.join(has)}; "
            f"the dataset has {', '.join(wanted)}",
            field=field,
        )

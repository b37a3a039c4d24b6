"""What an experiment names that must exist and fit: models, their classes, weights."""

from collections.abc import Iterator

from sqlalchemy import select
from sqlalchemy.orm import Session

from kdcore.spec import Experiment
from kdcore.spec.class_map import ClassesDiffer, ClassNames, map_classes
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
    for field, ref, classes in _model_references(experiment):
        versions[ref] = resolve(session, owner=owner, ref=ref, field=field)
        _refuse_other_classes(session, versions[ref], revision, field, classes)
    for field, model in models_of(experiment):
        if model.starts_from_model:
            ref = str(model.weights)
            versions[ref] = resolve(session, owner=owner, ref=ref, field=f"{field}.weights")
    return versions


def _refuse_local_weights(experiment: Experiment) -> None:
    """A path would name a file of whatever worker the job comes to, and let clients look for files."""
    for field, model in models_of(experiment):
        if model.weights not in (None, "imagenet") and not model.starts_from_model:
            raise InvalidReference(
                "a service takes no path of a weights file; leave it out, or say `imagenet` or "
                "`models:/name/3`",
                field=f"{field}.weights",
            )


def _model_references(experiment: Experiment) -> Iterator[tuple[str, str, ClassNames | None]]:
    """Each reference to a stored model, the field it stands in, and what is said of its classes."""
    match experiment:
        case DistillationExperiment():
            for index, teacher in enumerate(experiment.teachers):
                if teacher.model is not None:
                    yield f"teachers.{index}.model", teacher.model, teacher.classes
        case EvaluationExperiment():
            for index, ref in enumerate(experiment.models):
                yield f"models.{index}", ref, None
        case _:
            return


def _refuse_other_classes(
    session: Session,
    version: ModelVersion,
    revision: RevisionKey,
    field: str,
    given: ClassNames | None,
) -> None:
    """A model knows the classes of the dataset it was trained on."""
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
    try:
        map_classes(has, wanted, given)
    except ClassesDiffer as error:
        of_teacher = field.endswith(".model")
        at = field.removesuffix(".model") + ".classes" if of_teacher else field
        raise InvalidReference(
            f"{version.model} version {version.number}: {error.message}"
            + (f"; {error.remedy}" if of_teacher else ""),
            field=at if error.at is None else f"{at}.{error.at}",
        ) from error

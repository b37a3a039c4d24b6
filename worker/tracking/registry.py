"""The registry of the tracking server: the ledger's model versions and aliases, mirrored.

Versions count as they do in the ledger, unless somebody made or deleted some in the registry.
"""

from collections.abc import Iterator
from typing import Final

import structlog
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException, RestException

from kdcore.spec import rundir
from worker.ledger.lineage import lineage
from worker.ledger.mirroring import (
    REFUSED,
    PendingAlias,
    PendingVersion,
    mark_alias,
    pending_aliases,
    pending_versions,
    set_registered_name,
    set_registered_version,
)
from worker.ledger.session import Ledger
from worker.tracking.refusals import first_line, is_refusal
from worker.tracking.resting import Resting
from worker.tracking.tags import MODEL_TAG, VERSION_TAG, model_tags, version_tags

log = structlog.get_logger()
A_ROUND: Final = 50
TAKEN: Final = "RESOURCE_ALREADY_EXISTS"


class Registry:
    """What `pending_versions` and `pending_aliases` say is missing."""

    def __init__(self, client: MlflowClient, *, ledger: Ledger) -> None:
        self._client = client
        self._ledger = ledger

    def versions(self, resting: Resting) -> list[PendingVersion]:
        with self._ledger.unit_of_work() as session:
            return pending_versions(session, limit=A_ROUND, skip=resting.now())

    def aliases(self, resting: Resting) -> list[PendingAlias]:
        with self._ledger.unit_of_work() as session:
            return pending_aliases(session, limit=A_ROUND, skip=resting.now())

    def bring_version(self, version: PendingVersion) -> None:
        """Raises MlflowException, LedgerUnavailable; nothing is made twice by that."""
        try:
            name = version.registered_name or self._name(version)
            made = self._found(name, version) or self._make_in(name, version)
        except MlflowException as error:
            if not is_refusal(error):
                raise
            log.warning("tracking.version_refused", model=version.model, reason=first_line(error))
            name, made = "", REFUSED
        with self._ledger.unit_of_work() as session:
            standing = set_registered_version(session, version_id=version.id, number=made)
        if standing != made != REFUSED:
            self._client.delete_model_version(name, str(made))

    def bring_alias(self, alias: PendingAlias) -> None:
        """Raises MlflowException, LedgerUnavailable."""
        try:
            self._point(alias)
        except MlflowException as error:
            if not is_refusal(error):
                raise
            log.warning("tracking.alias_refused", alias=alias.alias, reason=first_line(error))
        with self._ledger.unit_of_work() as session:
            mark_alias(session, alias)

    def _name(self, version: PendingVersion) -> str:
        """The registry knows no owners and may be used by others: the first free name is taken."""
        for name in _names(version):
            if self._is_ours(name, version):
                with self._ledger.unit_of_work() as session:
                    return set_registered_name(session, model_id=version.model_id, name=name)
        raise AssertionError("unreachable: the last name is the model's alone")

    def _is_ours(self, name: str, version: PendingVersion) -> bool:
        try:
            self._client.create_registered_model(name, model_tags(version))
        except RestException as error:
            if error.error_code != TAKEN:
                raise
            standing = self._client.get_registered_model(name)
            return bool(standing.tags.get(MODEL_TAG) == str(version.model_id))
        return True

    def _found(self, name: str, version: PendingVersion) -> int | None:
        found = self._client.search_model_versions(
            f"name = '{name}' and tags.`{VERSION_TAG}` = '{version.id}'",
            order_by=["version_number ASC"],
        )
        return int(found[0].version) if found else None

    def _make_in(self, name: str, version: PendingVersion) -> int:
        try:
            return self._make(name, version)
        except MlflowException as error:
            if not is_refusal(error) or not self._is_ours(name, version):
                raise
            return self._make(name, version)  # the model had been deleted there, and is there again

    def _make(self, name: str, version: PendingVersion) -> int:
        with self._ledger.unit_of_work() as session:
            origin = lineage(session, version.job_id)
        made = self._client.create_model_version(
            name,
            source=f"runs:/{version.run_id}/{rundir.MODEL}",
            run_id=version.run_id,
            tags=version_tags(version, origin),
            await_creation_for=0,
        )
        return int(made.version)

    def _point(self, alias: PendingAlias) -> None:
        """Only to the same version: one that was deleted may have left its number to another."""
        name, number = alias.registered_name, str(alias.mlflow_version)
        standing = self._client.get_model_version(name, number)
        if standing.tags.get(VERSION_TAG) == str(alias.version_id):
            self._client.set_registered_model_alias(name, alias.alias, number)
        else:
            log.warning("tracking.alias_left_out", model=name, alias=alias.alias)


def _names(version: PendingVersion) -> Iterator[str]:
    yield version.model
    yield f"{version.owner}.{version.model}"
    yield f"{version.owner}.{version.model}.{version.model_id.hex}"

"""The MLflow experiments that hold the runs."""

from typing import Final

import structlog
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

log = structlog.get_logger()
OWNER: Final = "{owner}"


class Homes:
    """One for all runs, or one for each owner where ``name`` holds ``{owner}``."""

    def __init__(self, client: MlflowClient, name: str) -> None:
        self._client = client
        self._name = name
        self._ids: dict[str, str] = {}

    def of(self, owner: str) -> str:
        """Its id; it is made if it is not there. Raises MlflowException."""
        name = self._name.replace(OWNER, owner)
        if name not in self._ids:
            self._ids[name] = self._find(name) or self._make(name)
        return self._ids[name]

    def forget(self) -> None:
        """They may have gone: look again next time."""
        self._ids.clear()

    def _find(self, name: str) -> str | None:
        found = self._client.get_experiment_by_name(name)
        if found is None:
            return None
        if found.lifecycle_stage == "deleted":
            # Its name stays taken, and what is trained now belongs somewhere.
            self._client.restore_experiment(found.experiment_id)
            log.warning("tracking.experiment_restored", name=name)
        return str(found.experiment_id)

    def _make(self, name: str) -> str:
        try:
            return self._client.create_experiment(name)
        except MlflowException:
            # Somebody else made it meanwhile; if not, it was the server that failed.
            found = self._find(name)
            if found is None:
                raise
            return found

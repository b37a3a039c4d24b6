"""How MLflow's client shall behave, which it reads from the environment."""

import os
from collections.abc import MutableMapping
from typing import Final

CLIENT: Final = {
    # A request fails soon and once; the projector's own loop tries again, more and more rarely.
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    # It would ask for the run once more, to print a line that nobody reads.
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}


def prepare(environment: MutableMapping[str, str] = os.environ) -> None:
    """Call before MLflow is imported. What the operator has set stays."""
    for name, value in CLIENT.items():
        environment.setdefault(name, value)

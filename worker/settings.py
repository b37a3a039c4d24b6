"""Settings of the worker process, from the environment (prefix ``KD_``)."""

import shlex
import sys
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, SecretStr, model_validator
from pydantic.functional_validators import BeforeValidator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

Seconds = Annotated[float, Field(gt=0)]


def _words(value: object) -> object:
    """``a,b`` or ``a b`` in the environment is a list of two."""
    return value.replace(",", " ").split() if isinstance(value, str) else value


def _command(value: object) -> object:
    return shlex.split(value) if isinstance(value, str) else value


Queues = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_words)]


class WorkerSettings(BaseSettings):
    """All durations are seconds.

    The lease is what the ledger grants; a worker that could not renew it for ``self_fence_seconds``
    stops by itself, so that it is gone before anybody else may take the job.
    """

    model_config = SettingsConfigDict(env_prefix="KD_", frozen=True, extra="ignore")

    database_url: SecretStr
    work_dir: Path
    artifacts_dir: Path
    mlflow_url: str | None = None
    mlflow_experiment: str = "stillhouse"

    worker_name: str | None = Field(
        default=None, description="By default the host name and the process id"
    )
    cpu_slots: Annotated[int, Field(ge=0)] = 1
    queues: Queues = ("cpu",)
    trainer: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_command)] = (
        sys.executable,
        "-m",
        "kdcore",
        "run",
    )

    lease_seconds: Seconds = 30
    heartbeat_seconds: Seconds = 5
    self_fence_seconds: Seconds = 20
    poll_seconds: Seconds = 1
    relay_seconds: Seconds = 1
    grace_seconds: Seconds = Field(default=20, description="Between SIGTERM and SIGKILL")
    step_deadline_seconds: Seconds = Field(
        default=900, description="A trainer that writes no event for so long is hung"
    )
    keep_runs_seconds: Seconds = Field(
        default=86_400, description="Run directories of attempts that failed are kept so long"
    )
    reserve_bytes: Annotated[int, Field(ge=0)] = Field(
        default=1 << 30, description="Free space that must remain once a run's inputs are laid out"
    )
    log_format: Literal["console", "json"] = "console"
    metrics_host: str = "127.0.0.1"
    metrics_port: Annotated[int, Field(ge=0, le=65535)] | None = Field(
        default=None, description="Where Prometheus reads the worker's metrics; none by default"
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.heartbeat_seconds < self.self_fence_seconds < self.lease_seconds:
            raise ValueError(
                "heartbeat_seconds < self_fence_seconds < lease_seconds must hold: "
                f"{self.heartbeat_seconds}, {self.self_fence_seconds}, {self.lease_seconds}"
            )
        return self

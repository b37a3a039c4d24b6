"""Settings of the worker's processes, from the environment (prefix ``KD_``)."""

import shlex
import sys
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, SecretStr, model_validator
from pydantic.functional_validators import AfterValidator, BeforeValidator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from worker.artifacts import StorageSettings

OF_ENVIRONMENT = SettingsConfigDict(
    env_prefix="KD_",
    frozen=True,
    extra="ignore",
    hide_input_in_errors=True,  # an address may hold a password
)
Seconds = Annotated[float, Field(gt=0)]
BROKERS = ("redis://", "rediss://", "sentinel://")


def _words(value: object) -> object:
    """``a,b`` or ``a b`` in the environment is a list of two."""
    return value.replace(",", " ").split() if isinstance(value, str) else value


def _command(value: object) -> object:
    return shlex.split(value) if isinstance(value, str) else value


def _broker(value: SecretStr) -> SecretStr:
    """Only Redis: on another broker nobody has tried what is promised here."""
    if not value.get_secret_value().startswith(BROKERS):
        raise ValueError(f"must start with one of {', '.join(BROKERS)}")
    return value


Words = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_words)]
LogFormat = Literal["console", "json"]


class WorkerSettings(StorageSettings):
    """All durations are seconds.

    The lease is what the ledger grants; a worker that could not renew it for ``self_fence_seconds``
    stops by itself, so that it is gone before anybody else may take the job.
    """

    model_config = OF_ENVIRONMENT

    database_url: SecretStr
    work_dir: Path
    mlflow_url: str | None = None
    mlflow_experiment: str = Field(
        default="stillhouse",
        description="Where runs are shown; `stillhouse/{owner}` gives each owner one of their own",
    )

    worker_name: str | None = Field(
        default=None, description="By default the host name and the process id"
    )
    cpu_slots: Annotated[int, Field(ge=0)] = Field(
        default=1, description="How many jobs without GPUs run at once"
    )
    gpus: Words = Field(
        default=(),
        description="GPUs to deal out, as in CUDA_VISIBLE_DEVICES; `auto`: all there are",
    )
    memory_gib: Annotated[float, Field(gt=0)] | None = Field(
        default=None, description="Memory for jobs; default: the machine's or the container's"
    )
    labels: Words = Field(
        default=(), description="A job that asks for labels runs where all of them are"
    )
    queues: Words = ("cpu",)
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
    storage_patience_seconds: Seconds = Field(
        default=3600, description="A run waits so long for an artefact store that is away"
    )
    reserve_bytes: Annotated[int, Field(ge=0)] = Field(
        default=1 << 30, description="Free space that must remain once a run's inputs are laid out"
    )
    log_format: LogFormat = "console"
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


class ClusterWorkerSettings(WorkerSettings):
    """A worker that the broker wakes; polling is what it falls back on."""

    poll_seconds: Seconds = 5
    probe_seconds: Seconds = Field(
        default=15, description="How often a worker sends itself a message through the broker"
    )


class BrokerSettings(BaseSettings):
    """What every process that speaks with the broker knows, `celery inspect` too."""

    model_config = OF_ENVIRONMENT

    broker_url: Annotated[SecretStr, AfterValidator(_broker)]
    queues: Words = ("cpu",)
    log_format: LogFormat = "console"


class BeatSettings(BaseSettings):
    """Beat reads the ledger to know what is queued."""

    model_config = OF_ENVIRONMENT

    database_url: SecretStr

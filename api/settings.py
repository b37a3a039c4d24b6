"""Settings of the API process, read from the environment (``KD_…``)."""

import shlex
import sys
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import NoDecode, SettingsConfigDict

from worker.artifacts import StorageSettings

LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


class Settings(StorageSettings):
    model_config = SettingsConfigDict(env_prefix="KD_", frozen=True)

    database_url: SecretStr = Field(description="postgresql+psycopg://…")
    dataset_roots: Annotated[tuple[Path, ...], NoDecode] = Field(
        default=(), description="Folders below which datasets may lie, separated by colons"
    )
    scanner: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(sys.executable, "-m", "kdcore", "scan"),
        description="Command that validates a dataset",
    )
    scan_seconds: Annotated[float, Field(gt=0)] = 600.0
    scans: Annotated[int, Field(ge=1)] = 2
    thumbnails: Annotated[int, Field(ge=0, le=1000)] = 64
    """Small pictures kept of each split of a dataset; 0 for none."""
    mlflow_url: str | None = Field(default=None, description="Shown as a link, never called")

    api_host: str = "127.0.0.1"
    api_port: Annotated[int, Field(ge=0, le=65535)] = 8000
    api_allow_remote: bool = False
    api_hosts: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(), description="Further accepted Host names, separated by commas"
    )
    api_pool_size: Annotated[int, Field(ge=1, le=100)] = 10
    api_max_body: Annotated[int, Field(ge=1024)] = 1024 * 1024
    """Bytes."""
    api_event_poll_seconds: Annotated[float, Field(gt=0)] = 0.5
    api_heartbeat_seconds: Annotated[float, Field(gt=0)] = 15.0
    log_format: Literal["console", "json"] = "console"

    @field_validator("dataset_roots", mode="before")
    @classmethod
    def _split_roots(cls, value: Any) -> Any:
        return [part for part in value.split(":") if part] if isinstance(value, str) else value

    @field_validator("api_hosts", mode="before")
    @classmethod
    def _split_hosts(cls, value: Any) -> Any:
        if isinstance(value, str):
            return [part.strip() for part in value.split(",") if part.strip()]
        return value

    @field_validator("scanner", mode="before")
    @classmethod
    def _split_command(cls, value: Any) -> Any:
        return shlex.split(value) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _check_host(self) -> Self:
        if self.api_host not in LOOPBACK and not self.api_allow_remote:
            raise ValueError(
                f"KD_API_HOST={self.api_host} would let others reach the API, and it has no "
                "authentication yet: whoever reaches it owns every job and model. "
                "Keep 127.0.0.1, or set KD_API_ALLOW_REMOTE=1 behind a proxy that authenticates."
            )
        return self

    def allowed_hosts(self) -> tuple[str, ...]:
        """Host names that the API answers to."""
        return ("localhost", "127.0.0.1", "[::1]", *self.api_hosts)

"""The settings of the services as the doctor reads them: what is missing is for a check to say."""

from pathlib import Path

from pydantic import SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from worker.settings import Words


class DoctorSettings(BaseSettings):
    """Sizes are bytes."""

    model_config = SettingsConfigDict(env_prefix="KD_", frozen=True, extra="ignore")

    database_url: SecretStr | None = None
    broker_url: SecretStr | None = None
    artifacts_dir: Path | None = None
    artifacts_url: str | None = None
    s3_endpoint: str | None = None
    mlflow_url: str | None = None
    work_dir: Path | None = None
    reserve_bytes: int = 1 << 30
    queues: Words = ("cpu",)

"""From an address to an artefact store, and the settings that say where it is."""

from pathlib import Path
from typing import Self

from pydantic import Field, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from worker.artifacts.folder import FolderStore
from worker.artifacts.store import ArtifactStore

S3_ADDRESS = r"^s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/.*)?$"


class StorageSettings(BaseSettings):
    """What API and worker say alike (``KD_…``). Credentials of S3 come from boto3's own chain."""

    model_config = SettingsConfigDict(env_prefix="KD_", frozen=True)

    artifacts_url: str | None = Field(
        default=None, pattern=S3_ADDRESS, description="`s3://bucket/prefix`, instead of a folder"
    )
    artifacts_dir: Path | None = Field(default=None, description="Folder of the artefact store")
    s3_endpoint: str | None = Field(
        default=None, pattern="^https?://", description="Of an S3 service that is not Amazon's"
    )
    s3_public_endpoint: str | None = Field(
        default=None, pattern="^https?://", description="Where browsers reach that service"
    )

    @model_validator(mode="after")
    def _check_place(self) -> Self:
        if self.artifacts_url is None and self.artifacts_dir is None:
            raise ValueError(
                "nothing says where artefacts go: set KD_ARTIFACTS_URL=s3://bucket/prefix "
                "or KD_ARTIFACTS_DIR=/folder"
            )
        return self

    @property
    def store_address(self) -> str:
        """``s3://bucket/prefix`` or ``file:///folder``."""
        if self.artifacts_url is not None:
            return self.artifacts_url
        assert self.artifacts_dir is not None, "one of both is there"
        return self.artifacts_dir.absolute().as_uri()

    def open_store(self) -> ArtifactStore:
        """Raises `StorageUnavailable`, `StorageFull` for a folder that cannot be used."""
        return open_store(
            self.artifacts_url or str(self.artifacts_dir),
            endpoint=self.s3_endpoint,
            public_endpoint=self.s3_public_endpoint,
        )


def open_store(
    address: str, *, endpoint: str | None = None, public_endpoint: str | None = None
) -> ArtifactStore:
    """``s3://bucket/prefix``, or the path of a folder."""
    if not address.startswith("s3://"):
        return FolderStore(Path(address))
    # boto3 takes half a second and 30 MB: only where it is used.
    from worker.artifacts.s3 import S3Store

    bucket, _, prefix = address.removeprefix("s3://").partition("/")
    return S3Store(bucket, prefix, endpoint=endpoint, public_endpoint=public_endpoint)

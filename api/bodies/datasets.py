"""Datasets and their revisions, as answers."""

from datetime import datetime
from urllib.parse import quote
from uuid import UUID

from pydantic import Field

from api.bodies.base import Body
from kdcore.spec import DatasetManifest
from kdcore.spec.dataset import ClassEntry, DatasetSource, SplitStatistics
from worker.ledger.datasets import Revision
from worker.ledger.thumbnails import Thumbnail


class DatasetSummaryBody(Body):
    name: str
    revisions: int
    latest: int = Field(description="Number of the newest revision")
    fingerprint: str = Field(description="Of the newest revision")
    created_at: datetime


class RevisionSummaryBody(Body):
    id: UUID
    dataset: str
    number: int
    fingerprint: str
    created_at: datetime


class DatasetBody(Body):
    name: str
    latest: int
    revisions: list[RevisionSummaryBody] = Field(description="Newest first")


class SplitBody(Body):
    images: int
    bytes: int
    statistics: SplitStatistics | None = Field(
        description="Counted on the raw masks; `class_pixels` in the order of `classes`"
    )


class RevisionBody(RevisionSummaryBody):
    """A revision without its list of files."""

    source: DatasetSource
    classes: tuple[ClassEntry, ...]
    ignore_index: int | None
    splits: dict[str, SplitBody]
    unlabelled: SplitBody
    files: int
    bytes: int

    @classmethod
    def of(cls, revision: Revision) -> "RevisionBody":
        manifest = revision.manifest
        files = manifest.files()
        return cls(
            id=revision.id,
            dataset=revision.dataset,
            number=revision.number,
            fingerprint=revision.fingerprint,
            created_at=revision.created_at,
            source=revision.source,
            classes=manifest.classes,
            ignore_index=manifest.ignore_index,
            splits={name: _split(manifest, name) for name in manifest.splits},
            unlabelled=_unlabelled(manifest),
            files=len(files),
            bytes=sum(entry.size for entry in files),
        )


class ThumbnailBody(Body):
    split: str
    sample: str = Field(description="Id of the sample")
    url: str = Field(description="Of the picture, on this server")
    sha256: str
    size: int = Field(description="bytes")

    @classmethod
    def of(cls, thumbnail: Thumbnail, revision: str) -> "ThumbnailBody":
        """``revision`` is its path below `/v1/datasets/`."""
        path = f"{revision}/thumbnails/{thumbnail.split}/{thumbnail.sample}"
        return cls(
            split=thumbnail.split,
            sample=thumbnail.sample,
            url=f"/v1/datasets/{quote(path)}",
            sha256=thumbnail.file.sha256,
            size=thumbnail.file.size,
        )


def _split(manifest: DatasetManifest, name: str) -> SplitBody:
    samples = manifest.splits[name]
    size = sum(sample.image.size + (sample.mask.size if sample.mask else 0) for sample in samples)
    return SplitBody(images=len(samples), bytes=size, statistics=manifest.statistics.get(name))


def _unlabelled(manifest: DatasetManifest) -> SplitBody:
    size = sum(sample.image.size for sample in manifest.unlabelled)
    return SplitBody(images=len(manifest.unlabelled), bytes=size, statistics=None)

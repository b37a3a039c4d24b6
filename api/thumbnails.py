"""From the pictures that a scan made to thumbnails in the artefact store."""

import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from api.problems import Refusal, Slug
from api.scanning import Scanned
from kdcore.spec.dataset import Sample, thumbnail_path
from worker.artifacts import ArtifactStore
from worker.ledger.thumbnails import Thumbnail

BYTES_MAX: Final = 256 * 1024


def store_thumbnails(scanned: Scanned, store: ArtifactStore, *, each: int) -> list[Thumbnail]:
    """Thumbnails of ``each`` samples of a split, or of all where it has fewer.

    Raises:
        Refusal: `scan-failed` where the scanner made fewer, or wrote something else.
    """
    thumbnails = []
    for split, samples in scanned.manifest.groups().items():
        written = _written(scanned.thumbnails, split, samples)[:each]
        if len(written) < min(each, len(samples)):
            raise Refusal(
                Slug.SCAN_FAILED,
                f"The scanner of the dataset made no usable thumbnails of {split}.",
            )
        thumbnails += [
            Thumbnail(split, place, sample.id, store.put(path)) for place, sample, path in written
        ]
    return thumbnails


def _written(folder: Path, split: str, samples: Sequence[Sample]) -> list[tuple[int, Sample, Path]]:
    paths = [folder / thumbnail_path(split, place) for place in range(len(samples))]
    return [
        (place, sample, path)
        for place, (sample, path) in enumerate(zip(samples, paths, strict=True))
        if _small_file(path)
    ]


def _small_file(path: Path) -> bool:
    """Not a link: the scanner reads untrusted files and may have been led to write one."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        return False
    return stat.S_ISREG(found.st_mode) and found.st_size <= BYTES_MAX

"""What there is to learn from, by the statistics of the raw masks."""

from collections.abc import Sequence

from kdcore.errors import PreflightFailed
from kdcore.run.preflight.parts import Warn
from kdcore.spec.dataset import DatasetManifest, SplitStatistics
from kdcore.spec.job import FitJob

IGNORED_SHARE_TOLD = 0.5
"""Above it a warning: rarely meant, and half of every batch teaches nothing."""


def check_pool(job: FitJob, manifest: DatasetManifest) -> None:
    """Raises: PreflightFailed, when images without masks are asked for and there are none."""
    if job.unlabelled is not None and not manifest.unlabelled:
        raise PreflightFailed(
            "the dataset has no images without masks",
            field="unlabelled",
            remedy="register the dataset with `layout.unlabelled`, or leave `unlabelled` out",
        )


def check_ignored(statistics: SplitStatistics, *, most: float, warn: Warn) -> None:
    """Raises: PreflightFailed, when all pixels are ignored or a greater share of them than ``most``."""
    pixels = sum(statistics.class_pixels) + statistics.ignored_pixels
    share = statistics.ignored_pixels / pixels if pixels else 1.0
    if share == 1.0:
        raise PreflightFailed(
            "every pixel of the train split is ignored",
            field="dataset",
            remedy="check `ignore_index`, `ignored_ids` and the classes' raw ids",
        )
    if share > most:
        raise PreflightFailed(
            f"{share:.1%} of the train split's pixels are ignored; {most:.1%} is the most allowed",
            field="preflight.max_ignored",
            remedy="check `ignore_index` and `ignored_ids` of the dataset, or raise the bound",
        )
    if share > IGNORED_SHARE_TOLD:
        warn(
            "much_ignored",
            f"{share:.1%} of the train split's pixels are ignored (`ignore_index`, `ignored_ids` of "
            "the dataset); `preflight.max_ignored` can refuse that",
        )


def tell_absent_classes(statistics: SplitStatistics, names: Sequence[str], *, warn: Warn) -> None:
    """A class without a pixel in train cannot be learned from its labels."""
    counted = zip(names, statistics.class_pixels, strict=True)
    if absent := [name for name, pixels in counted if not pixels]:
        warn(
            "absent_classes",
            f"no pixel of the train split is {', '.join(absent)}: check the `raw_ids` of `classes`, "
            "or how the splits are dealt",
        )

"""What a job needs, what a worker offers, and whether the one fits the other."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, and_, false, or_

from kdcore.spec.experiment import Resources
from kdcore.spec.job import FitJob, Job
from worker.ledger.tables import JobRow

GIB = 1 << 30


@dataclass(frozen=True)
class Needs:
    """Columns of a job's row. A job without GPUs takes a CPU slot."""

    queue: str
    gpus: int
    memory_bytes: int | None
    labels: tuple[str, ...]
    run_seconds: int | None

    def columns(self) -> dict[str, Any]:
        return {
            "queue": self.queue,
            "gpus": self.gpus,
            "memory_bytes": self.memory_bytes,
            "labels": list(self.labels),
            "run_seconds": self.run_seconds,
        }


@dataclass(frozen=True)
class Offer:
    """What a worker has free for one more job, and of GPUs also how many it has in all.

    Without ``memory_bytes`` nobody asks how much memory a job takes.
    """

    cpu_slots: int = 1
    gpus: int = 0
    gpus_in_all: int = 0
    memory_bytes: int | None = None
    labels: Sequence[str] = ()

    @property
    def empty(self) -> bool:
        return self.cpu_slots <= 0 and self.gpus <= 0


def needs_of(job: Job, resources: Resources, *, queue: str | None = None) -> Needs:
    """``queue`` overrules the one that is written in ``resources``."""
    memory = resources.memory_gib
    return Needs(
        queue=queue or resources.queue_name,
        gpus=_gpus(job, resources),
        memory_bytes=None if memory is None else round(memory * GIB),
        labels=tuple(sorted(set(resources.labels))),
        run_seconds=resources.run_seconds,
    )


def fits(offer: Offer) -> list[ColumnElement[bool]]:
    """Guards on `JobRow`: jobs that may start with ``offer``."""
    on_cpu = JobRow.gpus == 0 if offer.cpu_slots > 0 else false()
    on_gpus = and_(JobRow.gpus > 0, JobRow.gpus <= offer.gpus) if offer.gpus > 0 else false()
    return [or_(on_cpu, on_gpus), *suits(JobRow, offer)]


def suits(job: Any, offer: Offer) -> list[ColumnElement[bool]]:
    """Guards on ``job`` (`JobRow` or an alias of it) that say nothing of slots and GPUs."""
    guards = [job.labels.contained_by(list(offer.labels))]
    if offer.memory_bytes is not None:
        guards.append(or_(job.memory_bytes.is_(None), job.memory_bytes <= offer.memory_bytes))
    return guards


def _gpus(job: Job, resources: Resources) -> int:
    if resources.device == "cpu":
        return 0
    return job.train.gpus if isinstance(job, FitJob) else 1

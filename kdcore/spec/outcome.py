"""How a run ended: `outcome.json`, written last, and the reasons for which a run fails."""

from enum import StrEnum
from typing import Literal

from pydantic import Field

from kdcore.spec.base import Spec

EXIT_INTERRUPTED = 75
"""Exit status of a trainer that was asked to stop (SIGTERM) and wrote a checkpoint: try again."""


class FailureKind(StrEnum):
    """Why an attempt did not succeed. The first group is known to the run, the second to its parent."""

    INVALID_SPEC = "invalid_spec"
    DATASET_CHANGED = "dataset_changed"
    PREFLIGHT_FAILED = "preflight_failed"
    NON_FINITE_LOSS = "non_finite_loss"
    DISK_FULL = "disk_full"
    OUT_OF_MEMORY = "out_of_memory"
    CODE_ERROR = "code_error"

    INTERRUPTED = "interrupted"
    TRAINER_CRASHED = "trainer_crashed"
    """A signal that a process brings on itself: SIGSEGV, SIGBUS, SIGABRT and the like."""
    TRAINER_KILLED = "trainer_killed"
    """A signal that comes from outside: SIGKILL, mostly."""
    TRAINER_HUNG = "trainer_hung"
    TRAINER_GARBLED = "trainer_garbled"
    WORKER_LOST = "worker_lost"
    RUN_TIME_EXCEEDED = "run_time_exceeded"
    """`resources.run_seconds` were not enough."""
    INPUT_MISSING = "input_missing"
    STORAGE_ERROR = "storage_error"


class Failure(Spec):
    kind: FailureKind
    message: str
    field: str | None = Field(default=None, description="Spec field to mend, as a dotted path")
    remedy: str | None = None


class Outcome(Spec):
    status: Literal["succeeded", "failed", "interrupted"]
    failure: Failure | None = None
    step: int | None = Field(default=None, description="Last completed optimizer step")
    metrics: dict[str, float] = Field(default={})
    speed: dict[str, float] = Field(
        default={},
        description="Of this attempt's steps: speed/images_per_second, speed/input_stall",
    )
    files: tuple[str, ...] = Field(default=(), description="What the run made, run-directory paths")

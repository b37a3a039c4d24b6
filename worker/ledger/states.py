"""The job's states and the reasons for which attempts fail, as literal tables.

Every transition of a job is one guarded UPDATE plus one event row; the guards are `TRANSITIONS`.
What follows from a failed attempt is read from `AFTER_FAILURE` and decided nowhere else.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from kdcore.spec.outcome import FailureKind


class Phase(StrEnum):
    WAITING = "waiting"
    """Some job that makes its inputs has not succeeded yet."""
    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


TERMINAL: Final = frozenset({Phase.SUCCEEDED, Phase.FAILED, Phase.CANCELLED})
ENDED_BADLY: Final = frozenset({Phase.FAILED, Phase.CANCELLED})
"""What can be tried again, by a new job in the place of the old one."""


class Action(StrEnum):
    ENQUEUE = "enqueue"
    """The last missing input is there."""
    CLAIM = "claim"
    SUCCEED = "succeed"
    RETRY = "retry"
    """The attempt ended without a result and the job goes back to the queue."""
    FAIL = "fail"
    CANCEL = "cancel"


TRANSITIONS: Final[dict[tuple[Phase, Action], Phase]] = {
    (Phase.WAITING, Action.ENQUEUE): Phase.QUEUED,
    (Phase.WAITING, Action.CANCEL): Phase.CANCELLED,
    (Phase.QUEUED, Action.CLAIM): Phase.RUNNING,
    (Phase.QUEUED, Action.CANCEL): Phase.CANCELLED,
    (Phase.RUNNING, Action.SUCCEED): Phase.SUCCEEDED,
    (Phase.RUNNING, Action.RETRY): Phase.QUEUED,
    (Phase.RUNNING, Action.FAIL): Phase.FAILED,
    (Phase.RUNNING, Action.CANCEL): Phase.CANCELLED,
}
"""Every pair that is not here is refused. Terminal phases have no way out."""


@dataclass(frozen=True)
class Flag:
    """What it means in each phase, for people."""

    waiting: str
    queued: str
    running: str
    events: str


FLAGS: Final[dict[str, Flag]] = {
    "paused": Flag(
        "queued all the same",
        "not claimed until it is resumed",
        "the trainer writes a checkpoint and leaves; then queued",
        "`job.paused`, `job.resumed`",
    ),
    "cancel_requested": Flag(
        "cancelled at once",
        "cancelled at once",
        "the trainer is asked to leave, then killed; whatever it brings, the job is cancelled",
        "`job.cancel_requested`",
    ),
}


class Fault(StrEnum):
    """Where to look for the cause."""

    REQUEST = "request"
    """What was asked for cannot be done, or not within its limits."""
    DATA = "data"
    CODE = "code"
    INFRASTRUCTURE = "infrastructure"
    """Says nothing about the job: another attempt may go well."""


@dataclass(frozen=True)
class AfterFailure:
    """What follows from an attempt that ended this way.

    ``limit`` is the number of such attempts *without a newer checkpoint between them* after which
    the job fails; 0 means that it fails at once, None that it is tried again without end. Attempts
    of all kinds together, but for those without a limit, end at `FRUITLESS_LIMIT`.
    ``delay_seconds`` is doubled with each attempt in that row, up to ``longest_delay_seconds``.
    """

    fault: Fault
    limit: int | None
    delay_seconds: float = 0.0
    longest_delay_seconds: float = 60.0


FRUITLESS_LIMIT: Final = 20
"""Deaths from outside say nothing about the job, and bad luck can deal many before the first
checkpoint; yet a job that takes its host down with it must not go on for ever."""

AFTER_FAILURE: Final[dict[FailureKind, AfterFailure]] = {
    FailureKind.INVALID_SPEC: AfterFailure(Fault.REQUEST, limit=0),
    FailureKind.DATASET_CHANGED: AfterFailure(Fault.DATA, limit=0),
    FailureKind.PREFLIGHT_FAILED: AfterFailure(Fault.REQUEST, limit=0),
    FailureKind.NON_FINITE_LOSS: AfterFailure(Fault.REQUEST, limit=0),
    FailureKind.DISK_FULL: AfterFailure(Fault.INFRASTRUCTURE, limit=0),
    FailureKind.OUT_OF_MEMORY: AfterFailure(Fault.REQUEST, limit=2, delay_seconds=1.0),
    FailureKind.CODE_ERROR: AfterFailure(Fault.CODE, limit=0),
    FailureKind.INTERRUPTED: AfterFailure(Fault.INFRASTRUCTURE, limit=None),
    FailureKind.TRAINER_CRASHED: AfterFailure(Fault.CODE, limit=3, delay_seconds=0.5),
    FailureKind.TRAINER_KILLED: AfterFailure(
        Fault.INFRASTRUCTURE, limit=FRUITLESS_LIMIT, delay_seconds=0.5, longest_delay_seconds=5.0
    ),
    FailureKind.TRAINER_HUNG: AfterFailure(Fault.CODE, limit=2, delay_seconds=0.5),
    FailureKind.TRAINER_GARBLED: AfterFailure(Fault.CODE, limit=2, delay_seconds=0.5),
    FailureKind.WORKER_LOST: AfterFailure(Fault.INFRASTRUCTURE, limit=FRUITLESS_LIMIT),
    FailureKind.RUN_TIME_EXCEEDED: AfterFailure(Fault.REQUEST, limit=0),
    FailureKind.INPUT_MISSING: AfterFailure(Fault.DATA, limit=0),
    FailureKind.STORAGE_ERROR: AfterFailure(Fault.INFRASTRUCTURE, limit=5, delay_seconds=2.0),
}

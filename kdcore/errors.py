"""The one error tree of kdcore. Every error carries the reason a run fails for, in `kind`.

::

    KdError
    ├── SpecError             a spec asks for what does not exist (names the field)
    ├── DatasetInvalid        files of a dataset cannot be used (names every file)
    ├── DatasetChanged        a file is not what the manifest says
    ├── PreflightFailed       the parts do not fit together; found before the first step
    ├── NonFiniteLoss         NaN or infinity, again after one rollback
    ├── DiskFull              no space left for a checkpoint or a result
    ├── OutOfMemory           the device or the host has no memory left
    ├── CheckpointCorrupt     no intact checkpoint among those that exist
    └── Interrupted           asked to stop; a checkpoint was written
"""

from dataclasses import dataclass

from kdcore.spec.outcome import Failure, FailureKind


class KdError(Exception):
    """``field`` is a dotted spec path; ``remedy`` says what to do."""

    kind: FailureKind = FailureKind.CODE_ERROR

    def __init__(
        self, message: str, *, field: str | None = None, remedy: str | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.field = field
        self.remedy = remedy

    def failure(self) -> Failure:
        return Failure(kind=self.kind, message=self.message, field=self.field, remedy=self.remedy)


class SpecError(KdError):
    kind = FailureKind.INVALID_SPEC


@dataclass(frozen=True)
class FileProblem:
    """One file that cannot be used, and why."""

    file: str
    reason: str


class DatasetInvalid(KdError):
    kind = FailureKind.INVALID_SPEC

    def __init__(self, problems: list[FileProblem]) -> None:
        first = problems[0]
        super().__init__(f"{len(problems)} unusable files, first {first.file}: {first.reason}")
        self.problems = problems


class DatasetChanged(KdError):
    kind = FailureKind.DATASET_CHANGED


class PreflightFailed(KdError):
    kind = FailureKind.PREFLIGHT_FAILED


class NonFiniteLoss(KdError):
    kind = FailureKind.NON_FINITE_LOSS


class DiskFull(KdError):
    kind = FailureKind.DISK_FULL


class OutOfMemory(KdError):
    kind = FailureKind.OUT_OF_MEMORY


class CheckpointCorrupt(KdError):
    kind = FailureKind.CODE_ERROR


class Interrupted(KdError):
    kind = FailureKind.INTERRUPTED

"""All checks, by their names."""

from collections.abc import Callable, Iterable
from typing import Final

from worker.doctor.broker import check_broker
from worker.doctor.database import check_clock, check_database
from worker.doctor.disk import check_disk
from worker.doctor.findings import Finding, Report, error
from worker.doctor.gpu import check_gpu
from worker.doctor.settings import DoctorSettings
from worker.doctor.storage import check_storage
from worker.doctor.tracking import check_mlflow
from worker.doctor.versions import check_versions

Check = Callable[[DoctorSettings], Iterable[Finding]]

CHECKS: Final[dict[str, Check]] = {
    "database": check_database,
    "clock": check_clock,
    "broker": check_broker,
    "storage": check_storage,
    "mlflow": check_mlflow,
    "gpu": check_gpu,
    "disk": check_disk,
    "versions": check_versions,
}


def examine(settings: DoctorSettings, checks: dict[str, Check] = CHECKS) -> Report:
    """Each check waits some seconds at most, and none keeps the others from being made."""
    return Report({name: _made(check, settings) for name, check in checks.items()})


def _made(check: Check, settings: DoctorSettings) -> list[Finding]:
    found: list[Finding] = []
    try:
        found.extend(check(settings))
    except Exception as fault:  # noqa: BLE001 (a patient in any state is to be examined)
        found.append(
            error(
                f"the check itself failed: {type(fault).__name__}: {fault}",
                "This is a fault of Stillhouse; please report it.",
            )
        )
    return found

"""Installed packages against the oldest releases that are known to work and to be safe."""

import platform
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from typing import Final

from kdcore import __version__
from worker.doctor.findings import Finding, error, ok
from worker.doctor.numbers import release
from worker.doctor.settings import DoctorSettings

FLOORS: Final = {
    "celery": "5.7",
    "mlflow": "3.17.2",
    "mlflow-skinny": "3.17.2",
    "pillow": "12.3",
    "psycopg": "3.3",
    "python-multipart": "0.0.30",
    "sqlalchemy": "2.1",
    "starlette": "1.3.1",
    "torch": "2.11",
}
"""Looked at where they are installed: no process needs them all."""


def check_versions(_: DoctorSettings) -> Iterable[Finding]:
    yield ok(f"Stillhouse {__version__}, Python {platform.python_version()}")
    for name, floor in FLOORS.items():
        try:
            found = version(name)
        except PackageNotFoundError:
            continue
        if release(found) < release(floor):
            yield error(
                f"{name} {found} is older than {floor}",
                "Install what requirements.lock says.",
            )

"""NVIDIA GPUs as `nvidia-smi` shows them: there, healthy, and with a driver new enough for torch."""

import shutil
import subprocess
from collections.abc import Iterable, Iterator
from importlib.metadata import PackageNotFoundError, version
from typing import Final

from worker.doctor.findings import Finding, error, ok, skipped
from worker.doctor.numbers import release
from worker.doctor.settings import DoctorSettings

WAIT_SECONDS: Final = 20.0
FIELDS: Final = (
    "index",
    "name",
    "memory.total",
    "driver_version",
    "ecc.errors.uncorrected.volatile.total",
)
RUNTIMES: Final = ("nvidia-cuda-runtime", "nvidia-cuda-runtime-cu12")
"""Distributions that torch's wheels bring along; their version is that of CUDA."""
OLDEST_DRIVER: Final = {12: 525, 13: 580}
"""By the major version of CUDA (https://docs.nvidia.com/deploy/cuda-compatibility)."""


def check_gpu(settings: DoctorSettings) -> Iterable[Finding]:
    needed = any(queue.startswith("gpu") for queue in settings.queues)
    if shutil.which("nvidia-smi") is None:
        if not needed:
            return [skipped("no NVIDIA driver here, and KD_QUEUES names no gpu queue")]
        return [
            error(
                f"KD_QUEUES is {','.join(settings.queues)} and there is no NVIDIA driver",
                "Install the driver; in a container also the NVIDIA container toolkit, and start "
                "it with --gpus all. Or take gpu out of KD_QUEUES.",
            )
        ]
    return _ask()


def _ask() -> Iterator[Finding]:
    query = ["nvidia-smi", f"--query-gpu={','.join(FIELDS)}", "--format=csv,noheader,nounits"]
    reload = "Reload the driver or reboot; `dmesg | grep -i xid` tells more."
    try:
        asked = subprocess.run(
            query, capture_output=True, text=True, timeout=WAIT_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        yield error(f"nvidia-smi does not answer in {WAIT_SECONDS:.0f} s", reload)
        return
    if asked.returncode:
        said = (asked.stdout + asked.stderr).strip()
        yield error(f"nvidia-smi ends with status {asked.returncode}: {said}", reload)
        return
    for line in asked.stdout.splitlines():
        yield from _judge([value.strip() for value in line.split(",")])


def _judge(values: list[str]) -> Iterator[Finding]:
    index, name, mebibytes, driver, uncorrected = values
    yield ok(f"GPU {index}: {name}, {mebibytes} MiB, driver {driver}")
    if uncorrected.isdigit() and int(uncorrected):
        yield error(
            f"GPU {index} had {uncorrected} memory errors that could not be corrected",
            "Drain this worker and reset the GPU; if they come back, replace it.",
        )
    cuda = _cuda()
    oldest = OLDEST_DRIVER.get(release(cuda)[0]) if cuda else None
    if oldest is not None and release(driver)[:1] < (oldest,):
        yield error(
            f"driver {driver} is too old for CUDA {cuda} of the installed torch",
            f"Install driver {oldest} or newer.",
        )


def _cuda() -> str | None:
    for name in RUNTIMES:
        try:
            return version(name)
        except PackageNotFoundError:
            continue
    return None

"""Where something was measured: what figures depend on, and nothing that names the machine."""

import os
import platform
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import torch

from benchmarks.speed.device import device_name

_LIBRARIES = ("torch", "torchvision", "transformers", "segmentation-models-pytorch", "timm",
              "torchdistill")  # fmt: skip


def describe(device: torch.device, threads: int) -> dict[str, str | int | list[float]]:
    """``load`` is the average load over 1, 5 and 15 minutes before the measurement."""
    gpu = device_name(device)
    return {
        "date": datetime.now(UTC).date().isoformat(),
        **({"gpu": gpu} if gpu is not None else {}),
        "cpu": _cpu_name(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "cores": os.cpu_count() or 1,
        "threads": threads,
        "load": [round(average, 2) for average in os.getloadavg()],
        "python": platform.python_version(),
        **{name: version(name) for name in _LIBRARIES},
    }


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor())

"""A worker process and what it runs."""

from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.chaos.children import Child
from tests.chaos.proxy import Proxy


@dataclass
class Worker:
    """``proxy`` is its way to the database."""

    process: Child
    proxy: Proxy

    def held(self) -> list[tuple[str, int]]:
        """Job and attempt of the trainers it runs."""
        return sorted({run for trainer in self.trainers() if (run := run_of(trainer)) is not None})

    def trainers(self) -> list[psutil.Process]:
        return [one for one in self.process.family() if run_of(one) and not is_leash(one)]

    def leashes(self) -> list[psutil.Process]:
        return [one for one in self.process.family() if is_leash(one)]


def run_of(process: psutil.Process) -> tuple[str, int] | None:
    """Job and attempt from the run directory at the end of its command line."""
    try:
        run = Path(process.cmdline()[-1])
    except (psutil.Error, IndexError):
        return None
    if run.parent.parent.name != "runs":
        return None
    return run.parent.name, int(run.name.removeprefix("a"))


def is_leash(process: psutil.Process) -> bool:
    try:
        return any(word.endswith("/leash.py") for word in process.cmdline())
    except psutil.Error:
        return False


def described(process: psutil.Process) -> str:
    try:
        return f"{process.pid} {' '.join(process.cmdline())}"
    except psutil.Error:
        return f"{process.pid}, gone by now"

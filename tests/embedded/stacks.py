"""`python -m embedded up`, started by a test."""

import os
import subprocess
import sys
from pathlib import Path

import psutil

from embedded.state import ROOT, Running, State
from tests.embedded.waiting import until


class Up:
    def __init__(self, folder: Path, **environment: str) -> None:
        self.state = State(folder)
        self.output = folder.with_name("up.log")
        ports = {"KD_API_PORT": "18000", "KD_MLFLOW_PORT": "15000"}
        with self.output.open("w") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "embedded", "up"],
                cwd=ROOT,
                env={**os.environ, **ports, **environment, "KD_STATE": str(folder)},
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def ready(self) -> Running:
        def running() -> Running | None:
            assert self.process.poll() is None, self.output.read_text()
            found = self.state.running()
            return found if found and found.pid == self.process.pid else None

        until(running, seconds=120)
        found = running()
        assert found is not None
        return found

    def below(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def ended(self) -> int:
        return self.process.wait(timeout=90)

"""`python -m embedded up` with everything real: what it leaves behind, and what it keeps."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from embedded.state import ROOT, Running, State
from tests.embedded.waiting import all_gone, until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


class Up:
    def __init__(self, folder: Path) -> None:
        self.state = State(folder)
        self.output = folder.with_name("up.log")
        ports = {"KD_API_PORT": "18000", "KD_MLFLOW_PORT": "15000"}
        with self.output.open("w") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "embedded", "up"],
                cwd=ROOT,
                env={**os.environ, **ports, "KD_STATE": str(folder)},
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


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "state"
    running = State(tmp_path / "state").running()
    if running and psutil.pid_exists(running.pid):
        os.kill(running.pid, signal.SIGKILL)


def test_killed_refused_broken_stopped_and_always_started_again(folder: Path) -> None:
    up = Up(folder)
    address = up.ready().api
    register(address)

    second = Up(folder)
    assert second.ended() == 1
    assert f"already running at {address}" in second.output.read_text()
    assert datasets(address) == ["tiny"]

    pids = [process.pid for process in up.below()]
    up.process.kill()
    up.ended()
    until(lambda: all_gone(pids))

    up = Up(folder)
    assert up.ready().api == address
    assert datasets(address) == ["tiny"]
    pids = [process.pid for process in up.below()]
    next(one for one in up.below() if one.cmdline()[-2:] == ["-m", "api"]).kill()
    assert up.ended() == 1
    assert "api ended with status 137" in up.output.read_text()
    assert all_gone(pids)

    up = Up(folder)
    assert up.ready().api == address
    assert datasets(address) == ["tiny"]
    pids = [process.pid for process in up.below()]
    up.process.send_signal(signal.SIGINT)
    assert up.ended() == 0
    assert all_gone(pids)
    assert "database system is shut down" in (folder / "log" / "postgres.log").read_text()


def register(address: str) -> None:
    source = {
        "name": "tiny",
        "root": str(ROOT / "examples" / "nuclei"),
        "splits": {"train": "val", "val": "test"},
        "classes": [{"name": name} for name in ("background", "nucleus", "boundary")],
    }
    answer = httpx.post(f"{address}/v1/datasets", json=source, timeout=60, trust_env=False)
    assert answer.status_code == 201, answer.text


def datasets(address: str) -> list[str]:
    answer = httpx.get(f"{address}/v1/datasets", timeout=30, trust_env=False)
    return [item["name"] for item in answer.json()["items"]]

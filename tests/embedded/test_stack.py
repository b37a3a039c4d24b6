"""`python -m embedded up` with everything real: what it leaves behind, and what it keeps."""

import signal
from pathlib import Path

import httpx
import pytest

from embedded.state import ROOT
from tests.embedded.stacks import Up
from tests.embedded.waiting import all_gone, until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


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

"""The state folder: its one user, and ports that stay."""

import json
import os
import socket
from pathlib import Path

import pytest

from embedded.errors import AlreadyRunning
from embedded.state import HOST, Running, State


@pytest.fixture(autouse=True)
def _no_ports_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KD_API_PORT", raising=False)
    monkeypatch.delenv("KD_MLFLOW_PORT", raising=False)


def test_second_user_is_refused_and_told_where_the_first_is(tmp_path: Path) -> None:
    state = State(tmp_path)
    with state.lock():
        state.announce(Running(os.getpid(), "http://127.0.0.1:8000", "http://127.0.0.1:5000"))
        with (
            pytest.raises(AlreadyRunning, match=r"http://127.0.0.1:8000 \(process \d+\)"),
            state.lock(),
        ):
            pass
    with state.lock():
        assert state.running() is None


def test_taken_port_makes_way_and_is_remembered(tmp_path: Path) -> None:
    state = State(tmp_path)
    with socket.socket() as other:
        other.bind((HOST, 0))
        other.listen()
        taken = other.getsockname()[1]
        (tmp_path / "ports.json").write_text(json.dumps({"api": taken, "mlflow": taken}))
        ports = state.ports()
    assert taken not in ports.values()
    assert ports["api"] != ports["mlflow"]
    assert state.ports() == ports


def test_environment_names_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KD_STATE", str(tmp_path))
    assert State.from_environment().folder == tmp_path

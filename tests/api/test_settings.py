"""Settings are read from the environment, and refuse to expose an API without authentication."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from api.settings import Settings

BASE = {"KD_DATABASE_URL": "postgresql+psycopg://kd:secret@localhost/kd", "KD_ARTIFACTS_DIR": "a"}


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("KD_")]:
        monkeypatch.delenv(name)
    for name, value in BASE.items():
        monkeypatch.setenv(name, value)


def test_lists_are_split(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KD_DATASET_ROOTS", "/data:/more data")
    monkeypatch.setenv("KD_API_HOSTS", "kd.example, kd")
    monkeypatch.setenv("KD_SCANNER", "python -m 'my scanner'")
    settings = Settings()
    assert settings.dataset_roots == (Path("/data"), Path("/more data"))
    assert settings.allowed_hosts() == ("localhost", "127.0.0.1", "[::1]", "kd.example", "kd")
    assert settings.scanner == ("python", "-m", "my scanner")


def test_defaults_listen_to_this_machine_only() -> None:
    settings = Settings()
    assert settings.api_host == "127.0.0.1"
    assert settings.dataset_roots == ()
    assert settings.scanner == (sys.executable, "-m", "kdcore", "scan")


def test_another_host_needs_a_decision(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KD_API_HOST", "0.0.0.0")
    with pytest.raises(ValidationError, match="no authentication yet"):
        Settings()
    monkeypatch.setenv("KD_API_ALLOW_REMOTE", "1")
    assert Settings().api_host == "0.0.0.0"


def test_the_process_says_why_it_does_not_start() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "api"],
        env={**os.environ, "KD_API_HOST": "::"},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 2
    assert "KD_API_ALLOW_REMOTE=1" in done.stderr
    assert "secret" not in done.stderr
    assert "Traceback" not in done.stderr

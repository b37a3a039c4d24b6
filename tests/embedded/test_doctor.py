"""The doctor of a stack on one machine: it finds the database without being told where."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from embedded.errors import PostgresFailed
from embedded.postgres import Postgres
from embedded.stack import LEDGER_DATABASE
from embedded.state import ROOT, Running, State
from worker.ledger.migrate import upgrade


@pytest.fixture
def state(tmp_path: Path) -> Iterator[State]:
    """As a stack leaves it whose MLflow server is gone."""
    state = State(tmp_path / "state")
    server = Postgres(state.folder / "postgres")
    try:
        server.start()
    except PostgresFailed as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"no Postgres here: {error}")
    server.ensure_database(LEDGER_DATABASE)
    upgrade(server.url(LEDGER_DATABASE))
    (state.folder / "artifacts").mkdir()
    state.announce(Running(os.getpid(), "http://127.0.0.1:1", "http://127.0.0.1:1"))
    yield state
    server.stop()


def test_it_knows_where_the_stack_is(state: State) -> None:
    said = call(state, "--json")
    assert said.returncode == 1, said.stderr
    levels: dict[str, set[str]] = {}
    for finding in json.loads(said.stdout)["findings"]:
        levels.setdefault(finding["check"], set()).add(finding["level"])
    # Durable, on the current schema: nothing but MLflow is to be complained of.
    assert levels["database"] == levels["clock"] == levels["storage"] == {"ok"}
    assert levels["broker"] == {"skipped"}
    assert levels["mlflow"] == {"error"}


def test_nothing_runs(tmp_path: Path) -> None:
    said = call(State(tmp_path))
    assert said.returncode == 1
    assert "`make up` starts it" in said.stderr


def call(state: State, *options: str) -> subprocess.CompletedProcess[Any]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("KD_")}
    return subprocess.run(
        [sys.executable, "-m", "embedded", "doctor", *options],
        cwd=ROOT,
        env={**kept, "KD_STATE": str(state.folder)},
        capture_output=True,
        text=True,
        check=False,
    )

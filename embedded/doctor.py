"""`python -m embedded doctor`: the worker's doctor, with the settings of the stack that runs here."""

import os
import subprocess
import sys
from collections.abc import Sequence

from embedded.errors import NotReady
from embedded.postgres import Postgres
from embedded.stack import LEDGER_DATABASE
from embedded.state import ROOT, State


def doctor(arguments: Sequence[str]) -> int:
    """Its exit status; raises NotReady if nothing runs."""
    state = State.from_environment()
    running = state.running()
    if running is None:
        raise NotReady(f"nothing runs on the state folder {state.folder}; `make up` starts it")
    environment = {
        **os.environ,
        "KD_DATABASE_URL": Postgres(state.folder / "postgres").url(LEDGER_DATABASE),
        "KD_WORK_DIR": str(state.folder / "runs"),
        "KD_ARTIFACTS_DIR": str(state.folder / "artifacts"),
        "KD_MLFLOW_URL": running.mlflow,
    }
    command = [sys.executable, "-m", "worker.doctor", *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode

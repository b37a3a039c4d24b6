"""The stack on one machine: Postgres, migrations, then the processes of the Procfile.

Started from below to above and stopped from above to below, so that a worker that is asked to stop
still finds the ledger. honcho's reader and printer are used, its manager is not: it kills after
five seconds, which is less than a checkpoint takes, and its children outlive a killed manager.
"""

import contextlib
import os
import sys
import threading
import time
from pathlib import Path
from typing import Final, Self

import httpx
from honcho.environ import parse_procfile

from embedded.errors import EmbeddedError, NotReady, Stopped
from embedded.postgres import Postgres
from embedded.process import Ending, Kept, Sink
from embedded.state import HOST, ROOT, Running, State

LEDGER_DATABASE: Final = "stillhouse"
MLFLOW_DATABASE: Final = "mlflow"
READY_SECONDS: Final = 180.0

# A worker writes a checkpoint of each running job before it ends (KD_GRACE_SECONDS is 20).
ENDINGS: Final = {
    "worker": Ending(grace=40.0),
    "api": Ending(grace=10.0),
    "mlflow": Ending(grace=10.0),
}
_PYTHON: Final = {
    "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
    "PYTHONUNBUFFERED": "1",
}
PROBES: Final = {"api": "/readyz", "mlflow": "/health"}


class Stack:
    """A context manager: whatever happens inside, nothing that it started is left running.

    ``stopping`` set by anyone (a signal handler) ends every wait here with `Stopped`.
    """

    def __init__(
        self,
        state: State,
        stopping: threading.Event,
        *,
        sink: Sink | None,
        procfile: Path = ROOT / "Procfile",
    ) -> None:
        self.state = state
        self._procfile = procfile
        self._stopping = stopping
        self._sink = sink
        self._postgres = Postgres(state.folder / "postgres", sink=sink)
        self._processes: dict[str, Kept] = {}
        ports = state.ports()
        self._ports = ports
        self.running = Running(
            pid=os.getpid(),
            api=f"http://{HOST}:{ports['api']}",
            mlflow=f"http://{HOST}:{ports['mlflow']}",
        )

    def start(self) -> None:
        """Everything is started; the API answers. MLflow, which is slow, may still be coming."""
        self._postgres.start(self._stopping)
        self._check_stopping()
        self._postgres.ensure_database(LEDGER_DATABASE)
        self._postgres.ensure_database(MLFLOW_DATABASE)
        environment = self._environment()
        commands = parse_procfile(self._procfile.read_text()).processes
        # It needs no migration of ours and takes longest, so it comes up while we migrate.
        self._spawn("mlflow", commands.pop("mlflow"), self._mlflow_environment())
        self._migrate(environment)
        for name, command in commands.items():
            self._spawn(name, command, environment)
        self.wait_ready("api")
        self.state.announce(self.running)

    def wait_ready(self, *names: str) -> None:
        """Until each answers; raises NotReady, or ServiceDied as soon as any process ended."""
        addresses = {"api": self.running.api, "mlflow": self.running.mlflow}
        deadline = time.monotonic() + READY_SECONDS
        with httpx.Client(timeout=5.0, trust_env=False) as client:
            for name in names:
                url = addresses[name] + PROBES[name]
                while not _answers(client, url):
                    self.check()
                    if time.monotonic() > deadline:
                        raise NotReady(
                            f"{name} does not answer at {url} after {READY_SECONDS:.0f} s; "
                            f"see {self.state.log(name)}"
                        )
                    self._stopping.wait(0.2)

    def check(self) -> None:
        """Raises ServiceDied if a process ended by itself, Stopped if the end was asked for."""
        self._check_stopping()
        for process in (self._postgres.process, *self._processes.values()):
            process.check()

    def watch(self) -> None:
        """Until the end is asked for or a process ends by itself."""
        while not self._stopping.wait(0.5):
            self.check()

    def stop(self) -> None:
        """In order, each within its grace; Postgres last, and whatever happens before."""
        with contextlib.ExitStack() as exits:
            exits.callback(self._postgres.stop)
            worker = self._processes.pop("worker", None)
            if worker:
                worker.stop()
            for process in self._processes.values():
                process.ask_to_stop()
            for process in self._processes.values():
                process.wait()
            self._processes.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    def _environment(self) -> dict[str, str]:
        folder = self.state.folder
        return {
            **os.environ,
            **_PYTHON,
            "KD_DATABASE_URL": self._postgres.url(LEDGER_DATABASE),
            "KD_WORK_DIR": str(_made(folder / "runs")),
            "KD_ARTIFACTS_DIR": str(_made(folder / "artifacts")),
            "KD_DATASET_ROOTS": os.environ.get("KD_DATASET_ROOTS", str(ROOT / "examples")),
            "KD_API_HOST": HOST,
            "KD_API_PORT": str(self._ports["api"]),
            "KD_MLFLOW_URL": self.running.mlflow,
            # Two trainers side by side: small networks do not fill more cores than that.
            "KD_CPU_SLOTS": os.environ.get("KD_CPU_SLOTS", str(min(2, os.cpu_count() or 1))),
            # Trainers share the cores with all the rest here, and OpenMP threads that spin while
            # they wait cost a training step up to four times its time.
            "OMP_WAIT_POLICY": os.environ.get("OMP_WAIT_POLICY", "PASSIVE"),
        }

    def _mlflow_environment(self) -> dict[str, str]:
        """Its own database and nothing of the ledger's."""
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("KD_")}
        return {
            **inherited,
            **_PYTHON,
            "KD_MLFLOW_PORT": str(self._ports["mlflow"]),
            "KD_MLFLOW_ARTIFACTS": str(_made(self.state.folder / "mlflow")),
            # In the environment and not on the command line, where everyone could read it.
            "MLFLOW_BACKEND_STORE_URI": self._postgres.url(MLFLOW_DATABASE),
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
            "MLFLOW_DISABLE_TELEMETRY": "true",
        }

    def _migrate(self, environment: dict[str, str]) -> None:
        process = Kept(
            "migrate",
            [sys.executable, "-m", "worker.ledger.migrate"],
            log=self.state.log("migrate"),
            cwd=ROOT,
            environment=environment,
            sink=self._sink,
        )
        while process.status is None:
            if self._stopping.wait(0.05):
                process.kill()
        if process.wait():
            self._check_stopping()
            raise EmbeddedError(f"the migration failed:\n{process.tail()}")

    def _spawn(self, name: str, command: str, environment: dict[str, str]) -> None:
        self._check_stopping()
        self._processes[name] = Kept(
            name,
            ["/bin/sh", "-c", f"exec {command}"],
            log=self.state.log(name),
            cwd=ROOT,
            environment=environment,
            ending=ENDINGS.get(name, Ending()),
            sink=self._sink,
        )

    def _check_stopping(self) -> None:
        if self._stopping.is_set():
            raise Stopped


def _answers(client: httpx.Client, url: str) -> bool:
    try:
        return client.get(url).status_code == httpx.codes.OK
    except httpx.TransportError:
        return False


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder

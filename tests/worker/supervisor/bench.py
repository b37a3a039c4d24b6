"""A bench for supervisors: real Postgres, a real store, real child processes, short times."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from threading import Thread
from typing import Any
from uuid import UUID

from pydantic import SecretStr
from sqlalchemy import text

from kdcore.spec import DatasetManifest
from tests.worker.ledger import making
from worker.artifacts import FolderStore
from worker.ledger import FileRef, Ledger, Phase, datasets
from worker.settings import WorkerSettings
from worker.supervisor.supervisor import Supervisor

TRAINER = Path(__file__).with_name("scripted_trainer.py")
ROOT = Path(__file__).parents[3]
PATIENCE_SECONDS = 30.0
QUICK = {
    "heartbeat_seconds": 0.3,
    "poll_seconds": 0.1,
    "relay_seconds": 0.1,
    "grace_seconds": 5,
    "reserve_bytes": 0,
}
SHORT_LEASE = {"lease_seconds": 1.0, "self_fence_seconds": 0.7, "heartbeat_seconds": 0.2}


@dataclass
class Bench:
    ledger: Ledger
    database_url: str
    folder: Path
    store: FolderStore
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def submit(self, *, seed: int = 0, **changes: Any) -> UUID:
        """One queued fit job (and its verdict, which waits); its id."""
        self.register()
        experiment = making.training(seeds=[seed], name=f"plain-{seed}", **changes)
        experiment_id = making.submit(self.ledger, experiment)
        return making.jobs_of(self.ledger, experiment_id)[f"model-{seed}"].id

    def register(self) -> DatasetManifest:
        image, mask = self.folder / "a.png", self.folder / "m.png"
        image.write_bytes(b"image")
        mask.write_bytes(b"mask")
        self.store.put(image)
        self.store.put(mask)
        with self.ledger.unit_of_work() as session:
            revision, _ = datasets.register(
                session, owner=making.OWNER, source=making.source(), manifest=manifest()
            )
        return revision.manifest

    def settings(self, script: dict[str, Any], **changes: Any) -> WorkerSettings:
        trainer = (sys.executable, "-I", str(TRAINER), json.dumps(script))
        return WorkerSettings(
            database_url=SecretStr(self.database_url),
            work_dir=self.folder / changes.pop("work", "work"),
            artifacts_dir=changes.pop("artifacts_dir", None) or self.store.root,
            trainer=trainer,
            **{**QUICK, **changes},
        )

    @contextmanager
    def running(self, script: dict[str, Any], **changes: Any) -> Iterator[Supervisor]:
        """A supervisor in this process."""
        settings = self.settings(script, **changes)
        supervisor = Supervisor(settings, ledger=self.ledger, store=self.store)
        thread = Thread(target=supervisor.run)
        thread.start()
        try:
            yield supervisor
        finally:
            supervisor.stop()
            thread.join()

    def spawn(self, script: dict[str, Any], **changes: Any) -> subprocess.Popen[bytes]:
        """``python -m worker``, in a process of its own."""
        return self.start(["-m", "worker"], self.environment(script, **changes))

    def environment(self, script: dict[str, Any], **changes: Any) -> dict[str, str]:
        """The settings of a worker as a process reads them."""
        settings = self.settings(script, **changes)
        values = settings.model_dump(mode="json", exclude_none=True)
        values["database_url"] = self.database_url
        values["trainer"] = " ".join(f"'{word}'" for word in settings.trainer)
        for name in ("queues", "gpus", "labels"):
            values[name] = ",".join(values[name])
        return {f"KD_{name.upper()}": str(value) for name, value in values.items()}

    def start(self, arguments: list[str], environment: dict[str, str]) -> subprocess.Popen[bytes]:
        """Python in a process of its own; what the n-th says is in `worker-n.log`."""
        with (self.folder / f"worker-{len(self.processes)}.log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, *arguments],
                cwd=ROOT,
                env={**os.environ, **environment},
                stdout=log,
                stderr=log,
            )
        self.processes.append(process)
        return process

    def phase(self, job_id: UUID) -> Phase:
        return making.job(self.ledger, job_id).phase

    def wait_for(self, job_id: UUID, *phases: Phase) -> None:
        until(lambda: self.phase(job_id) in phases)

    def wait_for_step(self, job_id: UUID, step: int) -> None:
        """The ledger has heard of this step."""

        def heard() -> bool:
            return ((making.job(self.ledger, job_id).progress or {}).get("step") or 0) >= step

        until(heard)

    def rows(self, statement: str, **values: Any) -> list[tuple[Any, ...]]:
        with self.ledger.unit_of_work() as session:
            return [tuple(row) for row in session.execute(text(statement), values)]

    def everything(self, job_id: UUID) -> dict[str, list[tuple[Any, ...]]]:
        """All rows of a job, for comparing before and after."""
        order = {
            "jobs": "id",
            "attempts": "number",
            "events": "number",
            "metrics": "key, step",
            "artifacts": "attempt, path",
        }
        return {
            table: self.rows(
                f"SELECT * FROM {table} WHERE {'id' if table == 'jobs' else 'job_id'} = :id "
                f"ORDER BY {by}",
                id=job_id,
            )
            for table, by in order.items()
        }

    def artifact(self, job_id: UUID, path: str) -> bytes:
        [(digest, size)] = self.rows(
            "SELECT sha256, size FROM artifacts WHERE job_id = :id AND path = :path "
            "ORDER BY attempt DESC LIMIT 1",
            id=job_id,
            path=path,
        )
        with self.store.open(FileRef(digest, size)) as file:
            return file.read()

    def run_directory(self, job_id: UUID, attempt: int, *, work: str = "work") -> Path:
        return self.folder / work / "runs" / str(job_id) / f"a{attempt}"

    def close(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.kill()
            process.wait()


def manifest() -> DatasetManifest:
    def entry(path: str, content: bytes) -> dict[str, Any]:
        return {"path": path, "sha256": sha256(content).hexdigest(), "size": len(content)}

    sample = {
        "id": "a",
        "image": entry("train/images/a.png", b"image"),
        "mask": entry("train/masks/a.png", b"mask"),
        "height": 4,
        "width": 4,
    }
    other = {
        **sample,
        "image": entry("val/images/a.png", b"image"),
        "mask": entry("val/masks/a.png", b"mask"),
    }
    return DatasetManifest.model_validate(
        {
            "classes": [{"name": "ground"}, {"name": "nucleus"}],
            "ignore_index": 255,
            "splits": {"train": [sample], "val": [other]},
            "statistics": {"train": {"class_pixels": [10, 6], "ignored_pixels": 0}},
        }
    )


def until(condition: Callable[[], bool], *, seconds: float = PATIENCE_SECONDS) -> None:
    """Look until it holds; fail after a time that only a fault can need."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds} s in vain"
        time.sleep(0.02)


def is_running(pid: int) -> bool:
    """Neither gone nor a zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] not in {"Z", "X"}

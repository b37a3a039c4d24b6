"""The service under test: an API, workers and a Postgres, each reached through a proxy."""

import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self
from uuid import uuid4

import httpx
import psutil
from sqlalchemy import make_url, text

from api.dependencies import LOCAL_OWNER
from embedded.postgres import Postgres
from kdcore.spec import DatasetManifest, DatasetSource
from tests.chaos import audit
from tests.chaos.children import Child, free_port, holds, marked
from tests.chaos.proxy import Network, Proxy
from tests.chaos.services import SERVICES
from tests.chaos.workers import Worker, described
from tests.worker.ledger import making
from tests.worker.supervisor import bench
from worker.artifacts import FolderStore
from worker.ledger import Ledger, LedgerUnavailable, datasets
from worker.ledger.migrate import upgrade
from worker.ledger.states import TERMINAL

LEASE_SECONDS: Final = 3.0
SHORT_TIMES: Final = {
    "KD_LEASE_SECONDS": str(LEASE_SECONDS),
    "KD_SELF_FENCE_SECONDS": "2",
    "KD_HEARTBEAT_SECONDS": "0.5",
    "KD_POLL_SECONDS": "0.5",
    "KD_RELAY_SECONDS": "0.2",
    "KD_GRACE_SECONDS": "4",
    "KD_RESERVE_BYTES": "0",
}
FAMILY_SECONDS: Final = 10.0
"""Within which all that a worker started is gone after its death."""

POSTGRES_SECONDS: Final = 60.0
API_SECONDS: Final = 120.0
LOOK_SECONDS: Final = 0.2
TOY: Final = (sys.executable, "-I", "-S", str(Path(__file__).with_name("toy_trainer.py")))
CELERY: Final = {"worker": ("worker.cluster", "worker"), "beat": ("worker.cluster", "beat")}
"""What runs instead of ``python -m worker`` where there is a broker."""

BEATS: Final = 2
FORGETFUL: Final = Path(__file__).with_name("forgetful")


@dataclass(frozen=True)
class Plan:
    """``product``: the tree whose code runs, ours or a patched copy. ``pause``: a toy's step, s.

    ``trainer``: a command instead of the toy's. ``audited``: the database notes what must not happen.
    ``proxied``: API and workers reach the database through their proxies. ``services``: of `SERVICES`.
    """

    product: Path = bench.ROOT
    workers: int = 2
    slots: int = 4
    pause: float = 0.01
    trainer: Sequence[str] | None = None
    audited: bool = True
    proxied: bool = True
    services: tuple[str, ...] = ()
    forgetful: bool = False
    """Its processes keep the journal that a power cut needs."""


class Cluster:
    """``with`` starts it and ends all of it, orphans too. The Postgres may serve several."""

    def __init__(self, folder: Path, postgres: Postgres, plan: Plan | None = None) -> None:
        self.folder = folder
        self.postgres = postgres
        self.plan = plan or Plan()
        self.id = uuid4().hex
        self.seen: list[str] = []
        """Orphans that were seen after a death (I5)."""
        self.store = FolderStore(folder / "artifacts")
        self.network = Network()
        self.database = f"chaos_{self.id[:8]}"
        self.journal = folder / "synced"

    def __enter__(self) -> Self:
        self.postgres.ensure_database(self.database)
        self.url = self.postgres.url(self.database)
        upgrade(self.url)
        self.ledger = Ledger(self.url, pool_size=5)
        if self.plan.audited:
            audit.install(self.url)
        for content in (b"image", b"mask"):
            self._put(content)
        self.register(making.source(), bench.manifest())
        self.given = set(self.store.root.rglob("*"))
        self.services = {name: SERVICES[name](self.folder / name) for name in self.plan.services}
        self.api_database = self.network.proxy(_socket_of(self.url))
        self.api_port = free_port()
        self.api = self._child("api", self.api_database, {"KD_API_PORT": str(self.api_port)})
        self.front = self.network.proxy(("127.0.0.1", self.api_port))
        self.workers = [self._worker(f"worker-{index}") for index in range(self.plan.workers)]
        self.beats = [
            self._child(f"beat-{index}", self.network.proxy(_socket_of(self.url)), {})
            for index in range(BEATS if "redis" in self.services else 0)
        ]
        try:
            self._start()
        except BaseException:
            self.__exit__()  # what did start must not stay
            raise
        return self

    def __exit__(self, *error: object) -> None:
        for child in self._children():
            child.kill()
        for service in self.services.values():
            service.kill()
        for process in marked(f"{self.id}/"):
            process.kill()
        holds(lambda: not marked(f"{self.id}/"), seconds=FAMILY_SECONDS)
        self.network.close()
        self.ledger.close()

    def _start(self) -> None:
        for service in self.services.values():
            service.start()
        for child in self._children():
            child.start()
        assert holds(self._api_answers, seconds=API_SECONDS), self.api.log.read_text()

    def register(self, source: DatasetSource, manifest: DatasetManifest) -> None:
        """Its files are in the store."""
        with self.ledger.unit_of_work() as session:
            datasets.register(session, owner=LOCAL_OWNER, source=source, manifest=manifest)

    def kill_worker(self, worker: Worker) -> None:
        worker.process.kill()
        self.bury(worker)

    def bury(self, worker: Worker) -> None:
        """It has ended; what lives on of it for too long is noted as orphans."""
        if not holds(lambda: not worker.process.family(), seconds=FAMILY_SECONDS):
            self.seen += [described(process) for process in worker.process.family()]

    def orphans(self) -> list[str]:
        """Seen so far, and what lives now of a life that has ended."""
        left = set(marked(f"{self.id}/"))
        for child in self._children():
            if child.alive:
                left.difference_update(child.family())
        return self.seen + [described(process) for process in left]

    def kill_postgres(self) -> None:
        """SIGKILL of the postmaster, then a new one on the same folder, which recovers."""
        pid = int((self.postgres.data / "postmaster.pid").read_text().split()[0])
        psutil.Process(pid).kill()
        self.postgres.process.wait()
        self.postgres.start()

    def settle(self, seconds: float) -> bool:
        """Until every job has ended (True), or none did for so long."""
        left, since = self.open_jobs(), time.monotonic()
        while left:
            time.sleep(LOOK_SECONDS)
            now = self.open_jobs()
            if now != left:
                left, since = now, time.monotonic()
            elif time.monotonic() - since > seconds:
                return False
        return True

    def open_jobs(self) -> int:
        [(count,)] = self.rows(f"SELECT count(*) FROM jobs WHERE phase NOT IN ({ENDED})")
        return int(count)

    def rows(self, statement: str, **values: Any) -> list[tuple[Any, ...]]:
        """Also while Postgres comes back."""
        found: list[tuple[Any, ...]] = []

        def read() -> bool:
            try:
                with self.ledger.unit_of_work() as session:
                    found[:] = [tuple(row) for row in session.execute(text(statement), values)]
            except LedgerUnavailable:
                return False
            return True

        assert holds(read, seconds=POSTGRES_SECONDS), "Postgres does not come back"
        return found

    def _api_answers(self) -> bool:
        try:
            return httpx.get(
                f"http://127.0.0.1:{self.api_port}/healthz", trust_env=False
            ).is_success
        except httpx.TransportError:
            return False

    def _put(self, content: bytes) -> None:
        path = self.folder / "sample"
        path.write_bytes(content)
        self.store.put(path)

    def _worker(self, name: str) -> Worker:
        proxy = self.network.proxy(_socket_of(self.url))
        trainer = self.plan.trainer or (*TOY, str(self.plan.pause))
        environment = {
            "KD_WORK_DIR": str(self.folder / name),
            "KD_WORKER_NAME": name,
            "KD_CPU_SLOTS": str(self.plan.slots),
            "KD_TRAINER": " ".join(trainer),
        }
        return Worker(self._child(name, proxy, environment), proxy)

    def _child(self, name: str, database: Proxy, environment: Mapping[str, str]) -> Child:
        address = make_url(self.url)
        if self.plan.proxied:
            address = address.set(host="127.0.0.1", port=database.port, query={})
        return Child(
            name,
            [sys.executable, "-m", *self._module(name.partition("-")[0])],
            cluster=self.id,
            cwd=self.plan.product,
            environment={
                **SHORT_TIMES,
                "KD_DATABASE_URL": address.render_as_string(hide_password=False),
                "KD_ARTIFACTS_DIR": str(self.store.root),
                "OMP_NUM_THREADS": "1",
                "OMP_WAIT_POLICY": "PASSIVE",
                "PYTHONPATH": str(self.plan.product),
                **self._led_to_services(),
                **(self._journalling() if self.plan.forgetful else {}),
                **environment,
            },
            log=self.folder / f"{name}.log",
        )

    def _module(self, kind: str) -> tuple[str, ...]:
        return CELERY[kind] if "redis" in self.services and kind in CELERY else (kind,)

    def _led_to_services(self) -> dict[str, str]:
        found = (service.environment for service in self.services.values())
        return {name: value for environment in found for name, value in environment.items()}

    def _journalling(self) -> dict[str, str]:
        path = f"{FORGETFUL}{os.pathsep}{self.plan.product}"
        return {"PYTHONPATH": path, "STILLHOUSE_SYNCED": str(self.journal)}

    def _children(self) -> list[Child]:
        return [self.api, *(worker.process for worker in self.workers), *self.beats]


ENDED: Final = ", ".join(f"'{phase}'" for phase in sorted(TERMINAL))


def _socket_of(url: str) -> Path:
    return Path(str(make_url(url).query["host"])) / ".s.PGSQL.5432"

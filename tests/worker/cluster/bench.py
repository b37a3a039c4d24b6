"""A bench for the cluster: workers and beats as processes, on a broker that can be broken."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from pydantic import SecretStr
from sqlalchemy import text

from tests.worker.cluster.broker import RedisServer
from tests.worker.ledger import making
from tests.worker.supervisor.bench import Bench, until
from worker.cluster.application import make_application
from worker.settings import BrokerSettings

ENDLESS = {"steps": 100_000, "every": 5, "pause": 0.01}
NEVER_SECONDS = 3600.0
NOBODY = "nobody"
START_SECONDS = 90.0


@dataclass(kw_only=True)
class ClusterBench(Bench):
    redis: RedisServer
    broker_url: str

    def worker(
        self,
        script: dict[str, Any],
        *options: str,
        environment: dict[str, str] | None = None,
        **changes: Any,
    ) -> subprocess.Popen[bytes]:
        """A cluster worker. It polls once an hour: what it finds sooner, somebody told it."""
        number = len(self.processes)
        changes = {"poll_seconds": NEVER_SECONDS, "work": f"work-{number}", **changes}
        return self.start(
            ["-m", "worker.cluster", "worker", "-n", f"w{number}@%h", *options],
            {
                **self.environment(script, **changes),
                "KD_BROKER_URL": self.broker_url,
                **(environment or {}),
            },
        )

    def beat(self) -> subprocess.Popen[bytes]:
        return self.start(
            ["-m", "worker.cluster", "beat"],
            {"KD_DATABASE_URL": self.database_url, "KD_BROKER_URL": self.broker_url},
        )

    @contextmanager
    def application(self) -> Iterator[Any]:
        """The Celery application in the test's process, for sending and inspecting."""
        application = make_application(BrokerSettings(broker_url=SecretStr(self.redis.url)))
        yield application
        application.close()

    def log(self, process: subprocess.Popen[bytes]) -> str:
        number = self.processes.index(process)
        return (self.folder / f"worker-{number}.log").read_text()

    def wait_for_log(self, process: subprocess.Popen[bytes], words: str) -> None:
        def said() -> bool:
            assert process.poll() is None, self.log(process)[-3000:]
            return words in self.log(process)

        until(said, seconds=START_SECONDS)

    def wait_until_consuming(self, process: subprocess.Popen[bytes]) -> None:
        """Celery says so once it has subscribed to its queues."""
        self.wait_for_log(process, " ready.")

    def submit_silently(self, *, seed: int = 0) -> UUID:
        """A queued job of which the ledger's notes said nothing to anybody."""
        self.register()
        experiment = making.training(seeds=[seed], name=f"silent-{seed}")
        experiment_id = making.submit(self.ledger, experiment, queue=NOBODY)
        job_id = making.jobs_of(self.ledger, experiment_id)[f"model-{seed}"].id
        with self.ledger.unit_of_work() as session:
            session.execute(text("UPDATE jobs SET queue = 'cpu' WHERE queue = :q"), {"q": NOBODY})
        return job_id

    def delay(self, job_id: UUID, seconds: float) -> None:
        """When the job may start, and no note of the ledger says so."""
        with self.ledger.unit_of_work() as session:
            session.execute(
                text("UPDATE jobs SET not_before = now() + :delay WHERE id = :id"),
                {"id": job_id, "delay": timedelta(seconds=seconds)},
            )

    def attempts(self, job_id: UUID) -> list[tuple[Any, ...]]:
        return self.rows(
            "SELECT number, ended_as FROM attempts WHERE job_id = :id ORDER BY number", id=job_id
        )

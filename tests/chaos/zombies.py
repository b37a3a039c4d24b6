"""``python -m tests.chaos.zombies --takeovers 200``: workers that sleep until others hold their jobs.

A worker is stopped in the middle of its runs, its leases run out, its jobs are taken from it, and only then
it wakes up. The audit of the database notes any effect that it still has.
"""

import argparse
import json
import signal
import sys
import tempfile
from pathlib import Path
from typing import Final

from embedded.postgres import Postgres
from tests.chaos.children import holds
from tests.chaos.client import Client, toys
from tests.chaos.cluster import Cluster, Plan
from tests.chaos.judging import judge
from tests.chaos.workers import Worker

PATIENCE_SECONDS: Final = 60.0
STEPS: Final = 400


def take_over(cluster: Cluster, client: Client, takeovers: int) -> int:
    """How many runs were taken from a sleeping worker; at least ``takeovers``."""
    done = submitted = 0
    while done < takeovers:
        slots = 2 * cluster.plan.slots
        if cluster.open_jobs() < 2 * slots:
            client.submit(toys(slots, steps=STEPS, every=20, first=submitted), rate=100.0)
            submitted += slots
        for worker in cluster.workers:
            done += _sleep_through(cluster, worker)
    cluster.settle(PATIENCE_SECONDS)
    return done


def _sleep_through(cluster: Cluster, worker: Worker) -> int:
    if not holds(lambda: bool(worker.trainers()), seconds=PATIENCE_SECONDS):
        return 0
    worker.process.send(signal.SIGSTOP)
    holder = "SELECT id, attempt FROM jobs WHERE phase = 'running' AND worker = :worker"
    held = cluster.rows(holder, worker=worker.process.name)

    def taken() -> bool:
        return not cluster.rows(holder, worker=worker.process.name)

    assert holds(taken, seconds=PATIENCE_SECONDS), "nobody takes over"
    worker.process.send(signal.SIGCONT)
    return len(held)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--takeovers", type=int, default=200)
    takeovers = parser.parse_args().takeovers
    with tempfile.TemporaryDirectory(prefix="stillhouse-zombies-") as name:
        folder = Path(name)
        postgres = Postgres(folder / "postgres")
        postgres.start()
        try:
            with Cluster(folder, postgres, Plan(slots=6)) as cluster:
                client = Client(cluster.front.port)
                done = take_over(cluster, client, takeovers)
                violations = judge(cluster, client)
        finally:
            postgres.stop()
    print(json.dumps({"takeovers": done, "violations": [str(one) for one in violations]}, indent=1))
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main())

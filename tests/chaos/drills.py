"""The mutation rule: each safeguard, the one fault it stands against, and what breaks without it."""

import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Final

from tests.chaos import power
from tests.chaos.children import holds
from tests.chaos.client import Client, Request, toys
from tests.chaos.cluster import Cluster, Plan
from tests.chaos.product import Removal
from tests.chaos.workers import Worker

PATIENCE_SECONDS: Final = 60.0
LOST_SECONDS: Final = 20.0
"""A job that has not begun after this never will: workers look every half second."""

CLIENTS: Final = 8
TOGETHER_SECONDS: Final = 2.0
"""Less than the API waits for a connection to the database."""


TWO: Final = Plan(workers=2, slots=1)
"""Workers with a slot each."""

FORGETFUL: Final = replace(TWO, forgetful=True)

Drill = Callable[[Cluster, Client], None]


@dataclass(frozen=True)
class Safeguard:
    """Without it (``removals`` in the code, ``sql`` in the schema) the ``drill`` breaks ``broken``."""

    drill: Drill
    broken: str
    removals: tuple[Removal, ...]
    sql: tuple[str, ...] = ()
    plan: Plan = TWO


def late_writes(cluster: Cluster, client: Client) -> None:
    """What a worker has sent is on its way until another one holds the job."""
    first, second = cluster.workers
    cluster.kill_worker(second)
    client.submit(toys(1, steps=600, every=10), rate=1.0)
    _wait(cluster, "SELECT count(*) > 0 FROM jobs WHERE checkpoint_step >= 20")
    first.proxy.hold()
    second.process.start()
    _wait(cluster, "SELECT count(*) > 0 FROM events WHERE attempt = 2 AND type = 'metric'")
    first.proxy.release()
    cluster.settle(PATIENCE_SECONDS)


def lost_hint(cluster: Cluster, client: Client) -> None:
    """A job is queued while the workers hear nothing."""
    client.submit(toys(1), rate=1.0)
    cluster.settle(PATIENCE_SECONDS)
    for worker in cluster.workers:
        worker.proxy.shut()
    client.submit(toys(1, first=1), rate=1.0)
    for worker in cluster.workers:
        worker.proxy.reopen()
    cluster.settle(LOST_SECONDS)


def same_key_at_once(cluster: Cluster, client: Client) -> None:
    """Impatient clients send the same submission again while the first is under way."""

    def submit(request: Request) -> Client:
        impatient = Client(client.port, patience_seconds=30.0)
        impatient.submit([request], rate=1.0)
        return impatient

    database = cluster.api_database
    with ThreadPoolExecutor(CLIENTS) as threads:
        for request in toys(3):
            database.hold()
            clients = [threads.submit(submit, request) for _ in range(CLIENTS)]
            # All of them look for the key before any has committed it.
            holds(lambda: database.waiting() >= CLIENTS, seconds=TOGETHER_SECONDS)
            database.release()
            for impatient in clients:
                for key, told in impatient.result().accepted.items():
                    client.accepted.setdefault(key, set()).update(told)
    assert client.accepted, "nobody was accepted"
    cluster.settle(PATIENCE_SECONDS)


def dead_parents(cluster: Cluster, client: Client) -> None:
    """Supervisor and leash die in one moment: nobody is left who could end the trainer."""
    client.submit(toys(1, steps=5000, every=10), rate=1.0)
    assert holds(lambda: bool(_busy(cluster)), seconds=PATIENCE_SECONDS)
    [worker] = _busy(cluster)
    worker.process.send(signal.SIGSTOP)
    for leash in worker.leashes():
        leash.kill()
    cluster.kill_worker(worker)
    client.cancel("key-0")
    cluster.settle(PATIENCE_SECONDS)


def power_cut(cluster: Cluster, client: Client) -> None:
    """The machine goes dark between two jobs, and comes back."""
    client.submit(toys(4), rate=100.0)
    cluster.settle(PATIENCE_SECONDS)
    power.cut(cluster)


def _busy(cluster: Cluster) -> list[Worker]:
    return [worker for worker in cluster.workers if worker.trainers()]


def _wait(cluster: Cluster, question: str) -> None:
    assert holds(lambda: cluster.rows(question) == [(True,)], seconds=PATIENCE_SECONDS), question


SAFEGUARDS: Final[dict[str, Safeguard]] = {
    "fence": Safeguard(
        late_writes,
        broken="I3",
        removals=(
            Removal(
                "worker/ledger/*.py",
                r",\s*JobRow\.attempt == attempt,\s*JobRow\.phase == Phase\.RUNNING,?",
            ),
        ),
    ),
    "outbox poll": Safeguard(
        lost_hint,
        broken="I1",
        removals=(
            Removal("worker/supervisor/supervisor.py", r"_wake\.wait\(pause\)", "_wake.wait()"),
        ),
    ),
    "unique key": Safeguard(
        same_key_at_once,
        broken="I1",
        removals=(
            Removal(
                "worker/ledger/submission.py",
                r"\.on_conflict_do_nothing\(index_elements=\[ExperimentRow[^)]*\)",
            ),
        ),
        sql=("ALTER TABLE experiments DROP CONSTRAINT uq_experiments_owner_idempotency_key",),
    ),
    "PDEATHSIG": Safeguard(
        dead_parents,
        broken="I5",
        removals=(
            Removal("worker/supervisor/leash.py", r"_prctl\(PR_SET_PDEATHSIG[^)]*\)", "pass"),
        ),
    ),
    "fsync of the file": Safeguard(
        power_cut,
        broken="I4",
        removals=(Removal("worker/artifacts/folder.py", r"os\.fsync\(target[^)]*\)\)", "pass"),),
        plan=FORGETFUL,
    ),
    "fsync of the folder": Safeguard(
        power_cut,
        broken="I4",
        removals=(Removal("worker/artifacts/folder.py", r"_sync_folder\(final\.parent\)", "pass"),),
        plan=FORGETFUL,
    ),
}

"""Who is struck in a soak, and how. A further service is one more row of `VICTIMS`.

A blow returns when whoever was struck is up again; it says what it hit.
"""

import random
import signal
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

import psutil

from tests.chaos.cluster import LEASE_SECONDS, Cluster
from tests.chaos.services import Redis
from tests.chaos.workers import Worker, run_of

Blow = Callable[[Cluster, random.Random], str]
DEAD_SECONDS: Final = 2.0
"""Longest time for which a killed service is away."""

GONE_SECONDS: Final = 20.0
"""A worker that is asked to leave has gone after its trainers' grace, and this."""


@dataclass(frozen=True)
class Victim:
    """``weight``: how often it is chosen, against the others. ``needs``: a service of the cluster."""

    strike: Blow
    weight: int = 2
    needs: str | None = None


def kill_api(cluster: Cluster, rng: random.Random) -> str:
    cluster.api.kill()
    time.sleep(rng.uniform(0.0, DEAD_SECONDS))
    cluster.api.start()
    return "api"


def kill_worker(cluster: Cluster, rng: random.Random) -> str:
    worker = rng.choice(cluster.workers)
    held = worker.held()
    cluster.kill_worker(worker)
    time.sleep(rng.uniform(0.0, DEAD_SECONDS))
    worker.process.start()
    return _names(held)


def deploy_worker(cluster: Cluster, rng: random.Random) -> str:
    """As a new version comes: it is asked to leave, and must."""
    worker = rng.choice(cluster.workers)
    if worker.process.leave(GONE_SECONDS) != 0:
        cluster.seen.append(f"{worker.process.name} did not leave in {GONE_SECONDS:.0f} s")
        worker.process.kill()
    cluster.bury(worker)
    worker.process.start()
    return worker.process.name


def stop_worker(cluster: Cluster, rng: random.Random) -> str:
    """Three leases long, while others take over; then it wakes up and believes that it holds them."""
    worker = rng.choice(cluster.workers)
    held = worker.held()
    worker.process.send(signal.SIGSTOP)
    time.sleep(3 * LEASE_SECONDS)
    worker.process.send(signal.SIGCONT)
    return _names(held)


def kill_trainer(cluster: Cluster, rng: random.Random) -> str:
    return _kill_one(cluster, rng, Worker.trainers)


def kill_leash(cluster: Cluster, rng: random.Random) -> str:
    return _kill_one(cluster, rng, Worker.leashes)


def kill_postgres(cluster: Cluster, _: random.Random) -> str:
    cluster.kill_postgres()
    return "postgres"


def lose_reply_to_submission(cluster: Cluster, _: random.Random) -> str:
    cluster.front.lose_reply(b"POST /v1/experiments ")
    return "front"


def lose_reply_to_commit(cluster: Cluster, rng: random.Random) -> str:
    """The transaction stands, and who sent it is told that the connection broke."""
    proxy = rng.choice([cluster.api_database, *(worker.proxy for worker in cluster.workers)])
    proxy.lose_reply(b"COMMIT")
    return "database"


def delay_writes(cluster: Cluster, rng: random.Random) -> str:
    """What a worker sent arrives three leases later, when others hold its jobs."""
    worker = rng.choice(cluster.workers)
    held = worker.held()
    worker.proxy.hold()
    time.sleep(3 * LEASE_SECONDS)
    worker.proxy.release()
    return _names(held)


def cut_connections(cluster: Cluster, rng: random.Random) -> str:
    rng.choice([cluster.api_database, *(worker.proxy for worker in cluster.workers)]).cut()
    return "database"


def kill_beat(cluster: Cluster, rng: random.Random) -> str:
    beat = rng.choice(cluster.beats)
    beat.kill()
    time.sleep(rng.uniform(0.0, DEAD_SECONDS))
    beat.start()
    return beat.name


def flush_broker(cluster: Cluster, _: random.Random) -> str:
    """All messages are gone."""
    broker = cluster.services["redis"]
    assert isinstance(broker, Redis)
    return broker.ask("FLUSHALL")


def kill_service(name: str) -> Blow:
    def kill(cluster: Cluster, rng: random.Random) -> str:
        cluster.services[name].kill()
        time.sleep(rng.uniform(0.0, DEAD_SECONDS))
        cluster.services[name].start()
        return name

    return kill


VICTIMS: Final[dict[str, Victim]] = {
    "api killed": Victim(kill_api),
    "worker killed": Victim(kill_worker, weight=4),
    "worker deployed": Victim(deploy_worker),
    "worker stopped": Victim(stop_worker, weight=4),
    "trainer killed": Victim(kill_trainer, weight=4),
    "leash killed": Victim(kill_leash),
    "postgres killed": Victim(kill_postgres),
    "reply to a submission lost": Victim(lose_reply_to_submission),
    "reply to a commit lost": Victim(lose_reply_to_commit),
    "writes late": Victim(delay_writes),
    "connections cut": Victim(cut_connections),
    "beat killed": Victim(kill_beat, needs="redis"),
    "redis killed": Victim(kill_service("redis"), needs="redis"),
    "redis flushed": Victim(flush_broker, needs="redis"),
    "mlflow killed": Victim(kill_service("mlflow"), needs="mlflow"),
}


def choose(
    cluster: Cluster, rng: random.Random, victims: Mapping[str, Victim] = VICTIMS
) -> tuple[str, Victim]:
    """By their weights, one of those that the cluster has."""
    there = {
        name: victim
        for name, victim in victims.items()
        if victim.needs is None or victim.needs in cluster.services
    }
    [name] = rng.choices(list(there), [victim.weight for victim in there.values()])
    return name, there[name]


def _kill_one(
    cluster: Cluster,
    rng: random.Random,
    of: Callable[[Worker], list[psutil.Process]],
) -> str:
    found = sorted(
        (one for worker in cluster.workers for one in of(worker)), key=lambda one: one.pid
    )
    if not found:
        return "nobody"
    victim = rng.choice(found)
    run = run_of(victim)
    with suppress(psutil.NoSuchProcess):
        victim.kill()
    return _names([run] if run else [])


def _names(held: list[tuple[str, int]]) -> str:
    return " ".join(f"{job}/a{attempt}" for job, attempt in held) or "an idle one"

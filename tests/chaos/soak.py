"""``make soak SEED=1 MINUTES=10``: jobs under blows at random moments, then the oracle.

Submission goes on at its rate, whatever is struck. When the minutes are over the rest is worked off in
peace. Exit status 1, and the folder is kept, when the oracle finds anything.
"""

import argparse
import json
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Thread
from typing import Any, Final

from embedded.postgres import Postgres
from tests.chaos.client import Client, toys
from tests.chaos.cluster import Cluster, Plan
from tests.chaos.figures import Dealt, summary
from tests.chaos.judging import judge
from tests.chaos.oracle import Violation
from tests.chaos.services import SERVICES
from tests.chaos.victims import choose

STALLED_SECONDS: Final = 120.0
"""When no job ended for so long, and nobody is struck, the rest is lost."""


@dataclass(frozen=True)
class Orders:
    """``rate``: jobs a second. ``pauses``: shortest and longest, in seconds, between two blows."""

    seed: int
    minutes: float = 10.0
    jobs: int = 10_000
    rate: float = 200.0
    pauses: tuple[float, float] = (5.0, 15.0)
    plan: Plan = Plan()  # noqa: RUF009 (frozen)


@dataclass(frozen=True)
class Report:
    violations: list[Violation]
    figures: dict[str, Any]


def soak(folder: Path, orders: Orders) -> Report:
    """The Postgres is the soak's own: it is struck too."""
    rng = random.Random(orders.seed)
    postgres = Postgres(folder / "postgres")
    postgres.start()
    try:
        with Cluster(folder, postgres, orders.plan) as cluster:
            client = Client(cluster.front.port)
            # Two jobs each: a fit and its verdict.
            requests = toys(orders.jobs // 2, rng=rng)
            submission = Thread(
                target=client.submit,
                args=(requests,),
                kwargs={"rate": orders.rate / 2},
                daemon=True,
            )
            started = time.monotonic()
            submission.start()
            dealt = strike(cluster, rng, orders, over=lambda: _over(cluster, submission))
            submission.join()
            cluster.settle(STALLED_SECONDS)
            seconds = time.monotonic() - started
            figures = {"seconds": round(seconds), **summary(cluster, client, dealt)}
            return Report(judge(cluster, client), figures)
    finally:
        postgres.stop()


def strike(
    cluster: Cluster, rng: random.Random, orders: Orders, *, over: Callable[[], bool]
) -> list[Dealt]:
    """Blow after blow until the minutes have passed or all is ``over``."""
    deadline = time.monotonic() + 60.0 * orders.minutes
    dealt = []
    while True:
        time.sleep(rng.uniform(*orders.pauses))
        if time.monotonic() > deadline or over():
            return dealt
        name, victim = choose(cluster, rng)
        at = time.time()
        hit = victim.strike(cluster, rng)
        dealt.append(Dealt(at, name, hit))
        with (cluster.folder / "blows.jsonl").open("a") as blows:
            blows.write(json.dumps(asdict(dealt[-1])) + "\n")


def _over(cluster: Cluster, submission: Thread) -> bool:
    return not submission.is_alive() and cluster.open_jobs() == 0


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--jobs", type=int, default=10_000)
    parser.add_argument("--rate", type=float, default=200.0)
    parser.add_argument("--pauses", type=float, nargs=2, default=(5.0, 15.0))
    parser.add_argument("--with", nargs="*", default=(), choices=list(SERVICES), dest="services")
    given = parser.parse_args()
    shortest, longest = given.pauses
    plan = Plan(services=tuple(given.services))
    orders = Orders(given.seed, given.minutes, given.jobs, given.rate, (shortest, longest), plan)
    folder = Path(tempfile.mkdtemp(prefix="stillhouse-soak-"))
    report = soak(folder, orders)
    print(json.dumps({"seed": orders.seed, **report.figures}, indent=1))
    if report.violations:
        for violation in report.violations:
            print(f"{violation.invariant}: {violation.what}")
        print(f"RED: {len(report.violations)} violations; everything is in {folder}")
        return 1
    shutil.rmtree(folder)
    print("GREEN")
    return 0


if __name__ == "__main__":
    sys.exit(main())

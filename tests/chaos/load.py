"""``python -m tests.chaos.load --rate 200``: how quickly submissions are answered, and jobs claimed.

Requests are sent when they are due, not when the one before is answered, and a latency counts from the
moment the request was due. With workers, the pick-up is the time from the commit that queued a job to the
commit that claimed it, by Postgres' own commit timestamps.
"""

import argparse
import json
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from threading import Thread
from typing import Final

import psycopg
from sqlalchemy import make_url

from embedded.postgres import Postgres
from tests.chaos.client import Client, toys
from tests.chaos.cluster import Cluster, Plan
from tests.chaos.figures import spread

WARM_UP: Final = 20
"""Requests before those that count."""

PICK_UP: Final = """
SELECT extract(epoch FROM pg_xact_commit_timestamp(c.xmin) - pg_xact_commit_timestamp(s.xmin))::float
FROM events c JOIN events s ON s.job_id = c.job_id
WHERE c.type = 'job.claimed' AND c.attempt = 1
    AND s.type = 'job.submitted' AND s.data->>'phase' = 'queued'
"""


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rate", type=float, default=200.0, help="experiments a second")
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--slots", type=int, default=4)
    parser.add_argument("--kill-postgres", type=int, default=0, metavar="TIMES")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="stillhouse-load-") as name:
        postgres = Postgres(Path(name) / "postgres")
        postgres.start()
        try:
            _track_commits(postgres)
            plan = Plan(workers=given.workers, slots=given.slots, audited=False, proxied=False)
            with Cluster(Path(name), postgres, plan) as cluster:
                figures = _measure(cluster, given)
        finally:
            postgres.stop()
    print(json.dumps({**vars(given), **figures}, indent=1))
    return 0


def _measure(cluster: Cluster, given: argparse.Namespace) -> dict[str, object]:
    client = Client(cluster.api_port)
    client.submit(toys(WARM_UP), rate=10.0)
    cluster.settle(60.0) if given.workers else None
    client.answers.clear()
    requests = toys(int(given.rate * given.seconds), first=WARM_UP)
    load = Thread(target=client.submit, args=(requests,), kwargs={"rate": given.rate}, daemon=True)
    load.start()
    for _ in range(given.kill_postgres):
        time.sleep(given.seconds / (given.kill_postgres + 1))
        cluster.kill_postgres()
    load.join()
    figures: dict[str, object] = {
        "answers": dict(Counter(answer.status for answer in client.answers)),
        "503 without Retry-After": sum(
            answer.status == 503 and not answer.retry_after for answer in client.answers
        ),
        "submission s": spread([one.seconds for one in client.answers if one.status == 201]),
    }
    if given.workers:
        cluster.settle(60.0)
        figures["pick-up s"] = spread([seconds for (seconds,) in cluster.rows(PICK_UP)])
    return figures


def _track_commits(postgres: Postgres) -> None:
    address = make_url(postgres.url("postgres", user="postgres")).set(drivername="postgresql")
    conninfo = address.render_as_string(hide_password=False)
    with psycopg.connect(conninfo, autocommit=True) as connection:
        connection.execute("ALTER SYSTEM SET track_commit_timestamp = on")
    postgres.stop()
    postgres.start()


if __name__ == "__main__":
    sys.exit(main())

"""Figures of a soak, read from the ledger and the list of blows."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tests.chaos.client import Client
from tests.chaos.cluster import Cluster


@dataclass(frozen=True)
class Dealt:
    """A blow: when (Unix seconds), to whom, and the runs it hit as ``JOB/aATTEMPT``."""

    at: float
    victim: str
    hit: str


def summary(cluster: Cluster, client: Client, dealt: Sequence[Dealt]) -> dict[str, Any]:
    ended = "SELECT coalesce(ended_as, 'open'), count(*) FROM attempts GROUP BY 1 ORDER BY 1"
    return {
        "experiments accepted": len(client.accepted),
        "jobs": dict(cluster.rows("SELECT phase, count(*) FROM jobs GROUP BY 1 ORDER BY 1")),
        "attempts": dict(cluster.rows(ended)),
        "blows": dict(sorted(Counter(blow.victim for blow in dealt).items())),
        "answers": dict(sorted(Counter(answer.status for answer in client.answers).items())),
        "submission s": spread([one.seconds for one in client.answers if one.status == 201]),
        "recovery of a killed trainer s": recovery(cluster, dealt, "trainer killed"),
        "recovery of a killed worker s": recovery(cluster, dealt, "worker killed"),
    }


def recovery(cluster: Cluster, dealt: Sequence[Dealt], victim: str) -> dict[str, float]:
    """From the blow to the first step of the next attempt, in the trainer's own words."""
    seconds = []
    for blow in dealt:
        for run in blow.hit.split() if blow.victim == victim else ():
            job, _, attempt = run.partition("/a")
            if not attempt:
                continue
            spoke = cluster.rows(
                "SELECT extract(epoch FROM min(at))::float FROM events "
                "WHERE job_id = CAST(:job AS uuid) AND attempt = :next AND type = 'metric'",
                job=job,
                next=int(attempt) + 1,
            )
            if spoke[0][0] is not None:
                seconds.append(spoke[0][0] - blow.at)
    return spread(seconds)


def spread(values: Sequence[float]) -> dict[str, float]:
    """Count, median, 99th percentile and largest; of none, the count."""
    if not values:
        return {"n": 0}
    ordered = sorted(values)
    return {
        "n": len(ordered),
        "p50": round(_quantile(ordered, 0.5), 4),
        "p99": round(_quantile(ordered, 0.99), 4),
        "max": round(ordered[-1], 4),
    }


def _quantile(ordered: Sequence[float], share: float) -> float:
    """Nearest rank: a value that was really seen."""
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]

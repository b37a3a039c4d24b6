"""A cluster and its clients before the oracle."""

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, Final
from uuid import UUID

from tests.chaos.client import Client
from tests.chaos.cluster import Cluster
from tests.chaos.oracle import Evidence, Violation, examine, toy_end, toy_twin

EXPECTED: Final = frozenset({0, 200, 201, 409})
"""Statuses; 0 is a connection that broke, 409 a cancel that came too late."""


def judge(
    cluster: Cluster,
    client: Client,
    *,
    end_of: Callable[[UUID, Mapping[str, Any]], str] = toy_end,
    twin_of: Callable[[UUID, Mapping[str, Any]], str | None] = toy_twin,
) -> list[Violation]:
    """Empty is green. An answer that no client should get counts as well (``API``)."""
    evidence = Evidence(
        rows=cluster.rows,
        store=cluster.store,
        accepted=client.accepted,
        cancelled=client.cancelled,
        orphans=cluster.orphans(),
        end_of=end_of,
        twin_of=twin_of,
    )
    return examine(evidence) + _answers(client)


def _answers(client: Client) -> list[Violation]:
    """With Postgres down 503 and when to try again; never any other refusal."""
    wrong = Counter(
        answer.status
        for answer in client.answers
        if answer.status not in EXPECTED and not (answer.status == 503 and answer.retry_after)
    )
    return [
        Violation("API", f"{count} answers had status {status}") for status, count in wrong.items()
    ]

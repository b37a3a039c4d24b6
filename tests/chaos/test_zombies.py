"""Workers that sleep until others hold their jobs have no effect when they wake up."""

from pathlib import Path

import pytest

from embedded.postgres import Postgres
from tests.chaos.client import Client
from tests.chaos.cluster import Cluster, Plan
from tests.chaos.judging import judge
from tests.chaos.zombies import take_over


@pytest.mark.chaos
@pytest.mark.slow
@pytest.mark.timeout(300)
def test_whoever_sleeps_through_the_lease_has_no_effect(
    folder: Path, drill_postgres: Postgres
) -> None:
    with Cluster(folder, drill_postgres, Plan(slots=2)) as cluster:
        client = Client(cluster.front.port)
        assert take_over(cluster, client, 6) >= 6
        assert judge(cluster, client) == []

"""The oracle is green on the product, and red on the product without each of its safeguards."""

from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import text

from embedded.postgres import Postgres
from tests.chaos.client import Client
from tests.chaos.cluster import Cluster, Plan
from tests.chaos.drills import SAFEGUARDS, Safeguard
from tests.chaos.judging import judge
from tests.chaos.oracle import Violation
from tests.chaos.product import patched

pytestmark = [pytest.mark.chaos, pytest.mark.slow, pytest.mark.timeout(300)]
DRILLS = {safeguard.drill.__name__: safeguard for safeguard in SAFEGUARDS.values()}


@pytest.mark.parametrize("name", DRILLS)
def test_the_product_stands_the_drill(name: str, folder: Path, drill_postgres: Postgres) -> None:
    safeguard = DRILLS[name]
    assert drill(folder, drill_postgres, safeguard, safeguard.plan) == []


@pytest.mark.parametrize("name", SAFEGUARDS)
def test_without_a_safeguard_the_oracle_is_red(
    name: str, folder: Path, drill_postgres: Postgres
) -> None:
    safeguard = SAFEGUARDS[name]
    product = patched(folder / "product", safeguard.removals)
    plan = replace(safeguard.plan, product=product)
    violations = drill(folder, drill_postgres, safeguard, plan, *safeguard.sql)
    assert safeguard.broken in {violation.invariant for violation in violations}


def drill(
    folder: Path, postgres: Postgres, safeguard: Safeguard, plan: Plan, *sql: str
) -> list[Violation]:
    with Cluster(folder, postgres, plan) as cluster:
        for statement in sql:
            with cluster.ledger.unit_of_work() as session:
                session.execute(text(statement))
        client = Client(cluster.front.port)
        safeguard.drill(cluster, client)
        return judge(cluster, client)

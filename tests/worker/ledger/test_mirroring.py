"""Model versions and aliases: what the registry of the tracking server lacks, what a name means."""

import pytest

from tests.worker.ledger import making
from worker.ledger import InvalidReference, Ledger, NotFound, mirroring, models, projection
from worker.ledger.aliases import move_alias
from worker.ledger.lineage import lineage
from worker.ledger.mirroring import PendingAlias, PendingVersion

MODEL = "plain-model"


def test_versions_come_in_order_once_their_runs_are_closed(ledger: Ledger) -> None:
    making.register(ledger)
    making.submit(ledger, making.training(seeds=[0, 1]))
    first, second = making.take(ledger), making.take(ledger)
    making.succeed(ledger, first)
    making.succeed(ledger, second)
    close(ledger, second)
    assert versions(ledger) == []  # the first of them comes first
    close(ledger, first)
    (version,) = versions(ledger)
    assert (version.number, version.job_id, version.registered_name) == (1, first.job_id, None)
    assert register(ledger, version, 1) == 1
    assert register(ledger, version, 7) == 1
    assert [version.number for version in versions(ledger)] == [2]


def test_the_first_registered_name_stands(ledger: Ledger) -> None:
    version = make_version(ledger)
    for name in ("one", "two"):
        with ledger.unit_of_work() as session:
            standing = mirroring.set_registered_name(session, model_id=version.model_id, name=name)
        assert standing == "one"


def test_the_candidate_is_the_newest(ledger: Ledger) -> None:
    version = make_version(ledger)
    assert aliases(ledger) == []  # the registry has neither name nor version
    register(ledger, version, 5)
    (alias,) = aliases(ledger)
    assert (alias.alias, alias.number, alias.mlflow_version) == ("candidate", 1, 5)
    mark(ledger, alias)
    assert aliases(ledger) == []
    making.succeed(ledger, take_again(ledger))
    assert model(ledger).aliases == {"candidate": 2}
    assert aliases(ledger) == []  # version 2 is not registered yet


def test_an_alias_that_moves_meanwhile_stays_pending(ledger: Ledger) -> None:
    version = make_version(ledger)
    register(ledger, version, 1)
    move(ledger, "champion", 1)
    old = {alias.alias: alias for alias in aliases(ledger)}["champion"]
    making.succeed(ledger, take_again(ledger))
    move(ledger, "champion", 2)
    mark(ledger, old)
    with ledger.unit_of_work() as session:
        mirroring.set_registered_version(session, version_id=model(ledger).versions[0].id, number=2)
    found = {alias.alias: alias.number for alias in aliases(ledger)}
    assert found == {"champion": 2, "candidate": 2}


def test_a_refused_version_has_no_aliases_there(ledger: Ledger) -> None:
    register(ledger, make_version(ledger), mirroring.REFUSED)
    assert versions(ledger) == []
    assert aliases(ledger) == []


def test_references_by_alias(ledger: Ledger) -> None:
    make_version(ledger)
    making.succeed(ledger, take_again(ledger))
    move(ledger, "champion", 1)
    assert resolve(ledger, "champion") == 1
    assert resolve(ledger, "candidate") == resolve(ledger, "latest") == 2
    with pytest.raises(InvalidReference, match="no model"):
        resolve(ledger, "unheard-of")


@pytest.mark.parametrize("alias", ["latest", "v3", "Champion", "", "a" * 64, "a b", "a/b", "é"])
def test_names_that_are_no_alias(ledger: Ledger, alias: str) -> None:
    make_version(ledger)
    with pytest.raises(InvalidReference) as refused:
        move(ledger, alias, 1)
    assert refused.value.field == "alias"


def test_an_alias_is_on_a_version_of_ones_own(ledger: Ledger) -> None:
    make_version(ledger)
    with pytest.raises(NotFound):
        move(ledger, "champion", 2)
    with pytest.raises(NotFound), ledger.unit_of_work() as session:
        move_alias(session, owner=making.STRANGER, model=MODEL, alias="champion", number=1)


def test_lineage_names_data_models_and_code(ledger: Ledger) -> None:
    revision = making.register(ledger)
    making.submit(ledger, making.distillation(seeds=[0]))
    teacher = making.take(ledger)
    making.succeed(ledger, teacher)
    claims = [making.take(ledger), making.take(ledger)]
    (distilled,) = [claim for claim in claims if claim.inputs]
    with ledger.unit_of_work() as session:
        origin = lineage(session, distilled.job_id)
        made = models.get_model(session, owner=making.OWNER, name="demo-teacher-big")
    assert (origin.dataset, origin.revision) == ("nuclei", 1)
    assert origin.fingerprint == revision.fingerprint
    assert origin.build == {}  # nobody noted it
    assert origin.inputs["teacher-big"].digest == made.versions[0].digest
    assert origin.inputs["teacher-big"].job_id == teacher.job_id


def make_version(ledger: Ledger) -> PendingVersion:
    making.register(ledger)
    making.submit(ledger, making.training())
    claim = making.take(ledger)
    making.succeed(ledger, claim)
    close(ledger, claim)
    (version,) = versions(ledger)
    return version


def take_again(ledger: Ledger) -> making.jobs.Claim:
    making.submit(ledger, making.training(), force=True)
    while True:
        claim = making.take(ledger)
        if claim.kind == "fit":
            return claim


def register(ledger: Ledger, version: PendingVersion, number: int) -> int:
    with ledger.unit_of_work() as session:
        mirroring.set_registered_name(session, model_id=version.model_id, name=version.model)
        return mirroring.set_registered_version(session, version_id=version.id, number=number)


def versions(ledger: Ledger) -> list[PendingVersion]:
    with ledger.unit_of_work() as session:
        return mirroring.pending_versions(session, limit=10)


def aliases(ledger: Ledger) -> list[PendingAlias]:
    with ledger.unit_of_work() as session:
        return mirroring.pending_aliases(session, limit=10)


def mark(ledger: Ledger, alias: PendingAlias) -> None:
    with ledger.unit_of_work() as session:
        mirroring.mark_alias(session, alias)


def move(ledger: Ledger, alias: str, number: int) -> None:
    with ledger.unit_of_work() as session:
        move_alias(session, owner=making.OWNER, model=MODEL, alias=alias, number=number)


def resolve(ledger: Ledger, alias: str) -> int:
    with ledger.unit_of_work() as session:
        return models.resolve(session, owner=making.OWNER, ref=f"models:/{MODEL}@{alias}").number


def model(ledger: Ledger) -> models.ModelDetail:
    with ledger.unit_of_work() as session:
        return models.get_model(session, owner=making.OWNER, name=MODEL)


def close(ledger: Ledger, claim: making.jobs.Claim) -> None:
    with ledger.unit_of_work() as session:
        projection.set_run(session, job_id=claim.job_id, run_id="r1")
        projection.close_run(session, job_id=claim.job_id, run_id="r1")

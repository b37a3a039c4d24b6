"""The ledger's models, their versions and aliases, in the registry of a real MLflow server."""

from collections.abc import Callable
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from tests.worker.ledger import making
from tests.worker.supervisor.bench import Bench
from tests.worker.tracking.looking import drain, only_run, settle, started, succeed
from worker.ledger.aliases import move_alias
from worker.tracking.projector import Projector
from worker.tracking.tags import VERSION_TAG


def test_versions_have_their_lineage(
    bench: Bench, projector: Projector, client: MlflowClient, home: str
) -> None:
    claims = [started(bench, name="lineage", seeds=[0, 1]), making.take(bench.ledger)]
    for claim in claims:
        succeed(bench, claim)
    settle(projector, bench)
    for number, claim in enumerate(claims, start=1):
        version = client.get_model_version("lineage-model", str(number))
        run_id = only_run(client, home, claim.job_id).info.run_id
        assert (version.run_id, version.source) == (run_id, f"runs:/{run_id}/model")
        expected = {
            "stillhouse.version": str(number),
            "stillhouse.job_id": str(claim.job_id),
            "stillhouse.dataset_revision": "nuclei@1",
            "stillhouse.owner": making.OWNER,
            "val/miou": "0.5",
        }
        assert expected.items() <= version.tags.items()
    (digest,) = bench.rows("SELECT digest FROM model_versions WHERE number = 2")
    assert version.tags["stillhouse.digest"] == digest[0]


def test_aliases_follow_the_ledger(
    bench: Bench, projector: Projector, client: MlflowClient
) -> None:
    for claim in (started(bench, name="aliased", seeds=[0, 1]), making.take(bench.ledger)):
        succeed(bench, claim)
    for number in (1, 2, 1):
        move(bench, "aliased-model", "champion", number)
        settle(projector, bench)
        assert client.get_model_version_by_alias("aliased-model", "champion").version == str(number)
        assert client.get_model_version_by_alias("aliased-model", "candidate").version == "2"


def test_a_name_that_others_use_is_left_to_them(
    bench: Bench, projector: Projector, client: MlflowClient
) -> None:
    client.create_registered_model("taken-model")
    succeed(bench, started(bench, name="taken"))
    settle(projector, bench)
    assert client.search_model_versions("name = 'taken-model'") == []
    assert client.get_model_version("ada.taken-model", "1").tags["stillhouse.version"] == "1"


def test_owners_have_models_of_their_own(
    bench: Bench, projector: Projector, client: MlflowClient
) -> None:
    for owner in (making.OWNER, making.STRANGER):
        making.register(bench.ledger, owner=owner)
        making.submit(bench.ledger, making.training(name="owned"), owner=owner)
        succeed(bench, fit(bench))
        settle(projector, bench)
    owners = {
        name: client.get_model_version(name, "1").tags["stillhouse.owner"]
        for name in ("owned-model", "eve.owned-model")
    }
    assert owners == {"owned-model": making.OWNER, "eve.owned-model": making.STRANGER}


def test_a_version_whose_making_was_not_answered_is_found_again(
    bench: Bench, projector: Projector, client: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        create = _without_answer(MlflowClient.create_model_version)
        patch.setattr(MlflowClient, "create_model_version", create)
        succeed(bench, started(bench, name="unanswered"))
        with pytest.raises(MlflowException, match="timeout"):
            drain(projector)
    settle(projector, bench)
    (version,) = client.search_model_versions("name = 'unanswered-model'")
    assert bench.rows("SELECT mlflow_version FROM model_versions") == [(int(version.version),)]


def test_of_two_that_were_made_at_once_one_stands(
    bench: Bench, projector: Projector, client: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that was stopped between looking and making, and another that did it meanwhile."""
    create = MlflowClient.create_model_version

    def creates(client: MlflowClient, name: str, **named: Any) -> ModelVersion:
        other = create(client, name, **named)
        bench.rows(
            "UPDATE model_versions SET mlflow_version = :number RETURNING id",
            number=int(other.version),
        )
        return create(client, name, **named)

    monkeypatch.setattr(MlflowClient, "create_model_version", creates)
    succeed(bench, started(bench, name="twin"))
    settle(projector, bench)
    (version,) = client.search_model_versions("name = 'twin-model'")
    assert version.version == "1"
    assert version.tags[VERSION_TAG] == str(bench.rows("SELECT id FROM model_versions")[0][0])


def test_a_model_that_was_deleted_there_comes_again_with_its_next_version(
    bench: Bench, projector: Projector, client: MlflowClient
) -> None:
    succeed(bench, started(bench, name="gone"))
    settle(projector, bench)
    client.delete_registered_model("gone-model")
    making.submit(bench.ledger, making.training(name="gone"), force=True)
    succeed(bench, fit(bench))
    move(bench, "gone-model", "champion", 1)
    settle(projector, bench)
    model = client.get_registered_model("gone-model")
    assert model.aliases == {"candidate": "1"}  # there is no champion any more
    assert client.get_model_version("gone-model", "1").tags["stillhouse.version"] == "2"


def fit(bench: Bench) -> making.jobs.Claim:
    while (claim := making.take(bench.ledger)).kind != "fit":
        pass
    return claim


def move(bench: Bench, model: str, alias: str, number: int) -> None:
    with bench.ledger.unit_of_work() as session:
        move_alias(session, owner=making.OWNER, model=model, alias=alias, number=number)


def _without_answer(create: Callable[..., ModelVersion]) -> Callable[..., ModelVersion]:
    def creates(*given: Any, **named: Any) -> ModelVersion:
        create(*given, **named)
        raise MlflowException("timeout")

    return creates

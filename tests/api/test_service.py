"""Health, schemas, and a description that is true about every route."""

import shutil
from pathlib import Path

import httpx
import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from api.settings import Settings
from api.spec_schemas import KINDS
from kdcore.spec import experiment_adapter
from tests.api.documents import Json, training
from tests.api.problem_assertions import assert_problem
from tests.api.serving import serve
from worker.ledger import Ledger


@pytest.fixture(scope="module")
def description(standing: httpx.Client) -> Json:
    document: Json = standing.get("/openapi.json").json()
    return document


def test_ready(standing: httpx.Client) -> None:
    answer = standing.get("/readyz")
    assert answer.status_code == 200
    assert answer.json()["status"] == "ready"
    assert set(answer.json()["checks"]) == {"database", "migrations", "artifacts"}


def test_old_schema_is_not_ready(client: httpx.Client, ledger: Ledger) -> None:
    with ledger.unit_of_work() as session:
        old = session.connection().exec_driver_sql("SELECT version_num FROM alembic_version")
        current = old.scalar_one()
        _set_version(session, "0000")
    problem = assert_problem(client.get("/readyz"), "unavailable")
    with ledger.unit_of_work() as session:
        _set_version(session, current)
    assert client.get("/readyz").status_code == 200
    assert problem["checks"]["database"]["ok"] is True
    assert problem["checks"]["migrations"]["ok"] is False


def test_no_artifact_folder_is_not_ready(settings: Settings, tmp_path: Path) -> None:
    with serve(settings.model_copy(update={"artifacts_dir": tmp_path / "gone"})) as client:
        shutil.rmtree(tmp_path / "gone")
        problem = assert_problem(client.get("/readyz"), "unavailable")
    assert problem["checks"]["artifacts"]["ok"] is False
    assert str(tmp_path) not in str(problem)


def test_front_door(standing: httpx.Client) -> None:
    answer = standing.get("/")
    assert (answer.status_code, answer.headers["location"]) == (307, "/docs")
    assert standing.get("/docs").status_code == 200


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_schemas(standing: httpx.Client, kind: str) -> None:
    schema = standing.get(f"/v1/schemas/{kind}").json()
    assert schema["$schema"].endswith("2020-12/schema")
    assert "$defs" in schema


def test_the_schema_uses_the_names_that_are_written(standing: httpx.Client) -> None:
    ramp = standing.get("/v1/schemas/distillation").json()["$defs"]["Ramp"]
    assert {"from", "to"} <= set(ramp["properties"])
    assert experiment_adapter.validate_python(training()).name == "plain"


def test_every_route_declares_its_failures(description: Json) -> None:
    seen = 0
    for path, operations in description["paths"].items():
        for method, operation in operations.items():
            if not path.startswith("/v1"):
                continue
            seen += 1
            responses = operation["responses"]
            needed = {"400", "500", "503"}
            if "{" in path or operation.get("parameters"):
                needed.add("422")
            if "requestBody" in operation:
                needed |= {"408", "413", "415", "422"}
            if "_id}" in path:
                needed.add("404")
            if path.endswith("/cancel"):
                needed.add("409")
            assert needed <= set(responses), (method, path)
            for status, response in responses.items():
                if status >= "400":
                    assert set(response["content"]) == {"application/problem+json"}, (path, status)
                    schema = response["content"]["application/problem+json"]["schema"]
                    assert schema == {"$ref": "#/components/schemas/Problem"}
    assert seen >= 20


def test_success_is_described_as_what_it_is(description: Json) -> None:
    paths = description["paths"]
    events = paths["/v1/jobs/{job_id}/events"]["get"]["responses"]["200"]["content"]
    assert set(events) == {"text/event-stream", "application/json"}
    log = paths["/v1/jobs/{job_id}/logs"]["get"]["responses"]["200"]["content"]
    assert set(log) == {"text/plain"}


def test_operations_are_named_once(description: Json) -> None:
    names = [
        operation["operationId"]
        for operations in description["paths"].values()
        for operation in operations.values()
    ]
    assert len(names) == len(set(names))


def test_every_reference_leads_somewhere(description: Json) -> None:
    schemas = description["components"]["schemas"]
    for reference in _references(description):
        assert reference.removeprefix("#/components/schemas/") in schemas
    assert description["openapi"].startswith("3.1")
    assert "HTTPValidationError" not in schemas


def test_what_is_open_is_meant_to_be(standing: httpx.Client, description: Json) -> None:
    """Everything outside of /v1 is about nobody's things."""
    outside = {path for path in description["paths"] if not path.startswith("/v1/")}
    assert outside == {"/healthz", "/readyz", "/metrics", "/problems/{slug}"}


def _set_version(session: Session, version: str) -> None:
    session.execute(text("UPDATE alembic_version SET version_num = :version"), {"version": version})


def _references(value: object) -> list[str]:
    if isinstance(value, dict):
        own = [value["$ref"]] if isinstance(value.get("$ref"), str) else []
        return own + [found for item in value.values() for found in _references(item)]
    if isinstance(value, list):
        return [found for item in value for found in _references(item)]
    return []
